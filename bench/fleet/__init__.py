"""Thousands of devices on a real server: all records stored, none twice, no lag; then more until something gives way, which must not be a record."""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from bench import postgres
from bench.fleet import figures
from bench.fleet import stage as stages
from bench.fleet import trial as trials
from bench.fleet.trial import Trial
from bench.measure import Aim, Report, at_least, skip
from fleet_server.mqtt import mosquitto

_TELL_S = 2.0
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
        tell = _teller()
        stage = stack.enter_context(stages.running(folder, devices, database_url=url, workers=workers, tell=tell))
        common = {"rows": rows, "processes": processes, "others": [stage.rig.state().pid, *pids], "tell": tell}
        found = [trials.run(stage, rate=rate, seconds=seconds, **common)]
        while not no_more and _goes_on(found[-1]):
            rate *= 2
            found.append(trials.run(stage, rate=rate, seconds=max(5.0, seconds / 4), **common))
        return _report(found, rows)


def _teller() -> Callable[[str], None]:
    """What goes on, for who waits: a line now and then."""
    said_s = 0.0

    def tell(text: str) -> None:
        nonlocal said_s
        if time.monotonic() - said_s >= _TELL_S:
            said_s = time.monotonic()
            sys.stderr.write(f"  {text}\n")
            sys.stderr.flush()

    return tell


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


def _report(found: list[Trial], rows: int) -> Report:
    losses, before = [], 0
    for each in found:
        before += each.acknowledged
        losses.append((len(each.comparison.mismatches) + max(0, before - each.keys), each.rows - each.keys))
    columns = [figures.of(each, missing, surplus, rows) for each, (missing, surplus) in zip(found, losses, strict=True)]
    names = list(dict.fromkeys(name for column in columns for name in column))
    table = [(name, *(column.get(name, "") for column in columns)) for name in names]
    return Report("fleet", table, _aims(found, sum(missing for missing, _ in losses), sum(surplus for _, surplus in losses)))


def _aims(found: list[Trial], lost: int, twice: int) -> list[Aim]:
    first, last = found[0], found[-1]
    aims = [
        Aim("devices connected when the first load began", first.outcome.gathered.online, len(first.outcome.devices)),
        Aim("messages/s stored of those sent, at the first load", first.stored_per_s / first.per_s, trials.SHARE),
        Aim("seconds until everything is acknowledged and decoded, after the first load", first.decoded_s, trials.MAX_LAG_S, at_most=True),
        Aim("records lost or lanes that differ", lost, 0, at_most=True),
        Aim("records stored twice", twice, 0, at_most=True),
        Aim("records that devices gave up", sum(each.dropped for each in found), 0, at_most=True),
    ]
    return aims if len(found) == 1 else [*aims, Aim("messages/s of the heaviest load, where nothing was lost", last.per_s, _SURE_PER_S)]
