"""Thousands of devices on a real server: all records stored, none twice, no lag; then more until something gives way, which must not be a record."""

import argparse
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from bench import postgres
from bench.fleet import stage as stages
from bench.fleet import trial as trials
from bench.fleet.trial import Trial
from bench.measure import Aim, Report, at_least, skip
from fleet_server.mqtt import mosquitto

_HEAD = ("messages/s", "stored/s", "ack p50", "ack p99", "sent again", "lag", "decoded", "lost", "twice", "processors")
_MAX_LAG_S = 10.0
_SHARE = 0.98
"""What was sent in the last moment is acknowledged after the end."""
_CEILING_PER_S = 40_000
_SURE_PER_S = 10_000
"""Up to here it is doubled in any case."""


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--devices", type=at_least(1), default=5_000)
    parser.add_argument("--rate", type=float, default=1.0, help="messages a second of each device (default: 1)")
    parser.add_argument("--rows", type=at_least(1), default=1, help="records in a message (default: 1)")
    parser.add_argument(
        "--seconds", type=at_least(5), default=120, help="of the first load; those that follow last a quarter (default: 120)"
    )
    parser.add_argument("--store", choices=("sqlite", "postgresql"), default="postgresql")
    parser.add_argument("--workers", type=at_least(1), default=1, help="ingest workers (default: 1)")
    parser.add_argument("--processes", type=at_least(1), default=1, help="that the devices are spread over (default: 1)")
    parser.add_argument("--no-more", action="store_true", help="only the first load")


def run(devices: int, rate: float, rows: int, seconds: int, store: str, workers: int, processes: int, no_more: bool) -> Report:
    """See the module."""
    if mosquitto.find("/usr/sbin:/usr/bin:/usr/local/sbin") is None:
        return skip("fleet", "mosquitto is not installed")
    if store == "postgresql" and (reason := postgres.obstacle()):
        return skip("fleet", reason)
    with ExitStack() as stack:
        url, pids = stack.enter_context(_store(store))
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="edgefleet-bench-")))
        stage = stack.enter_context(stages.running(folder, devices, database_url=url, workers=workers))
        others = [stage.rig.state().pid, *pids]
        found = [trials.run(stage, rate=rate, rows=rows, seconds=seconds, processes=processes, others=others)]
        while not no_more and _goes_on(found[-1]):
            rate *= 2
            found.append(trials.run(stage, rate=rate, rows=rows, seconds=max(5.0, seconds / 4), processes=processes, others=others))
    return _report(found)


@contextmanager
def _store(store: str) -> Iterator[tuple[str | None, list[int]]]:
    """The database's URL, and its process."""
    if store == "sqlite":
        yield None, []
        return
    with postgres.running("shared_buffers=256MB", "max_wal_size=4GB") as cluster:
        yield cluster.url, [int((cluster.data / "postmaster.pid").read_text().split()[0])]


def _goes_on(last: Trial) -> bool:
    return last.per_s * 2 <= _CEILING_PER_S and (last.held or last.per_s < _SURE_PER_S)


def _report(found: list[Trial]) -> Report:
    first, last = found[0], found[-1]
    stored_before = 0
    table, lost, twice = [_HEAD], 0, 0
    for each in found:
        stored_before += sum(device.lanes["telemetry"].acknowledged for device in each.outcome.devices)
        missing, surplus = abs(len(each.comparison.mismatches)) + max(0, stored_before - each.keys), each.rows - each.keys
        lost, twice = lost + missing, twice + surplus
        table.append(_row(each, missing, surplus))
    aims = [
        Aim("messages/s stored of those sent, at the first load", first.stored_per_s / first.per_s, _SHARE),
        Aim("seconds until nothing waits, after the first load", first.lag_s, _MAX_LAG_S, at_most=True),
        Aim("records lost or lanes that differ", lost, 0, at_most=True),
        Aim("records stored twice", twice, 0, at_most=True),
        Aim("messages/s stored at most", max(each.stored_per_s for each in found), _SHARE * min(_SURE_PER_S, last.per_s)),
    ]
    return Report("fleet", table, aims)


def _row(each: Trial, missing: int, surplus: int) -> tuple[str, ...]:
    total = each.outcome.total
    p50, p99 = (total.latency.quantile(share) or 0.0 for share in (0.5, 0.99))
    busy = ", ".join(f"{part} {share:.2f}" for part, share in each.cpu.most_common() if share >= 0.05)
    rates = (f"{each.per_s:,.0f}", f"{each.stored_per_s:,.0f}", f"{p50 * 1e3:,.0f} ms", f"{p99 * 1e3:,.0f} ms", f"{total.again:,}")
    return (*rates, f"{each.lag_s:.1f} s", f"{each.decoded_s:.1f} s", f"{missing:,}", f"{surplus:,}", busy)
