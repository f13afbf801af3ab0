"""What is shown of one load, figure by figure."""

import os

from bench.fleet import processor, trial
from bench.fleet.trial import Trial

_QUARTERS = (1, 2, 3, 4)


def of(each: Trial, missing: int, surplus: int, rows: int) -> dict[str, str]:
    """By name, in the order in which they are read."""
    total, gathered = each.outcome.total, each.outcome.gathered
    return {
        "messages/s wanted": f"{each.per_s:,.0f}",
        "connected before": f"{gathered.online:,}",
        "connections/s": f"{gathered.online / max(gathered.connected_s, 1e-3):,.0f}",
        "devices' processor for one": f"{gathered.cpu_s * 1e3 / max(1, gathered.online):.1f} ms",
        "statuses taken in after": f"{gathered.known_s:.1f} s",
        "messages sent": f"{total.messages - total.again:,}",
        "sent again": f"{total.again:,}",
        "acknowledged": f"{total.landed:,}",
        "acknowledged/s of the load": f"{each.stored_per_s:,.0f}",
        "records stored": f"{each.comparison.stored:,}",
        "given up by devices": f"{each.dropped:,}",
        "lost, or lanes that differ": f"{missing:,}",
        "twice": f"{surplus:,}",
        "acknowledged after, p50": _ms(total.latency.quantile(0.5)),
        "acknowledged after, p99": _ms(total.latency.quantile(0.99)),
        "lag at each quarter": " ".join(f"{lag:.1f}" for lag in quarters(each, rows)) + " s",
        "lag at the end": f"{each.lag_s:.1f} s",
        "decoded after the end": f"{each.decoded_s:.1f} s",
        "most that waited on devices": f"{max((second.queued for second in each.outcome.seconds), default=0):,}",
        "most that waited in the inbox": f"{max(each.behind.values(), default=0):,}",
        **{f"CPU seconds: {part}": f"{share * each.seconds:.1f}" for part, share in each.cpu.most_common()},
        "saturated": processor.saturated(each.cpu, os.cpu_count() or 1),
        "so it": "held" if each.held else "gave way: devices waited for acknowledgements",
    }


def quarters(each: Trial, rows: int) -> list[float]:
    """Seconds' worth of records that waited on devices after each quarter of the load."""
    during = [second for second in each.outcome.seconds if second.at_s <= each.seconds]
    lags = trial.lags(during, each.per_s, rows)
    return [lags[(len(lags) - 1) * part // len(_QUARTERS)] for part in _QUARTERS] if lags else []


def _ms(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds * 1e3:,.0f} ms"
