"""What a run of a virtual fleet comes to: tables for people, one object for programs."""

from collections import Counter
from typing import Any

from hil.screen import Screen
from hil.virtual_fleet.comparison import Comparison
from hil.virtual_fleet.running import Outcome
from hil.virtual_fleet.script import Phase
from hil.virtual_fleet.tally import PhaseTally

_MAX_SHOWN = 10
_COLUMNS = ["phase", "from", "sent", "again", "stored", "p50", "p99", "age", "up", "down"]


def show(screen: Screen, outcome: Outcome, comparison: Comparison | None) -> None:
    rows = [_row(phase.name, f"{phase.begin_s:g} s", tally) for phase, tally in outcome.phases]
    screen.table(f"Scenario {outcome.scenario.name}", _COLUMNS, [*rows, _row("all", "", outcome.total)])
    if why := _why_not_connected(outcome):
        screen.say(why)
    if comparison is None:
        return
    columns = ["devices", "produced", "told stored", "stored", "dropped", "queued", "lanes off"]
    counts = (comparison.devices, comparison.produced, comparison.acknowledged, comparison.stored, comparison.dropped, comparison.unsettled)
    screen.table("Ledger", columns, [[f"{count:,}" for count in (*counts, len(comparison.mismatches))]])
    for each in comparison.mismatches[:_MAX_SHOWN]:
        screen.say(f"    {each.device} {each.lane}: {each.stored} stored, {each.expected} expected")


def as_json(outcome: Outcome, comparison: Comparison | None) -> dict[str, Any]:
    """Times in seconds; `could_not_connect` are attempts by their reason, the commonest first."""
    report = {
        "scenario": outcome.scenario.name,
        "seed": outcome.scenario.seed,
        "devices": len(outcome.devices),
        "connected_before": outcome.gathered.online,
        "settled_s": outcome.settled_s,
        "cpu_s": round(outcome.cpu_s, 2),
        "total": _numbers(outcome.total),
        "phases": [{**_bounds(phase), **_numbers(tally)} for phase, tally in outcome.phases],
    }
    if comparison is not None:
        report["ledger"] = {
            "balances": comparison.balances,
            "settled": comparison.settled,
            "produced": comparison.produced,
            "acknowledged": comparison.acknowledged,
            "stored": comparison.stored,
            "dropped": comparison.dropped,
            "queued": comparison.unsettled,
            "mismatches": [
                {"device": each.device, "lane": each.lane, "expected": each.expected, "stored": each.stored}
                for each in comparison.mismatches
            ],
        }
    return report


def duration(seconds: float | None) -> str:
    """Of three significant digits, in the unit that suits it; a dash for None."""
    if seconds is None:
        return "-"
    return f"{seconds * 1e3:.3g} ms" if seconds < 1 else f"{seconds:.3g} s"


def _why_not_connected(outcome: Outcome) -> str:
    """Nothing where every attempt led to a connection."""
    failed = Counter(outcome.total.failed)
    if not failed:
        return ""
    [(reason, count)] = failed.most_common(1)
    return f"{failed.total():,} attempts to connect failed, {count:,} of them for this reason: {reason}"


def _row(name: str, begin: str, tally: PhaseTally) -> list[str]:
    counts = [f"{count:,}" for count in (tally.messages, tally.again, tally.acknowledged)]
    times = [duration(tally.latency.quantile(0.5)), duration(tally.latency.quantile(0.99)), duration(tally.age.quantile(0.99))]
    return [name, begin, *counts, *times, f"{tally.connected:,}", f"{tally.broken:,}"]


def _bounds(phase: Phase) -> dict[str, Any]:
    return {"name": phase.name, "begin_s": phase.begin_s}


def _numbers(tally: PhaseTally) -> dict[str, Any]:
    return {
        "messages": tally.messages,
        "again": tally.again,
        "acknowledged": tally.acknowledged,
        "bytes_out": tally.bytes_out,
        "connected": tally.connected,
        "broken": tally.broken,
        "could_not_connect": dict(Counter(tally.failed).most_common()),
        "lost_on_the_link": tally.lost,
        "ignored": tally.ignored,
        "ack_p50_s": tally.latency.quantile(0.5),
        "ack_p99_s": tally.latency.quantile(0.99),
        "age_p99_s": tally.age.quantile(0.99),
    }
