"""Telemetry rows a second that a server stores and acknowledges, as a share of what a bare paho subscriber receives.

Every part is a process of its own on this machine: Mosquitto (mTLS), the devices (this one), one or two ingest workers, the compactor beside them,
and PostgreSQL where it is installed. All take turns with the peer, whose subscription is on the same broker: it acknowledges by hand and keeps
nothing. The devices have 4,000 messages in flight and send the next when one is acknowledged: by the server after its commit, or for the peer when
it has come. What goes all the way into the lake is counted until the compactor has everything, which begins with the load and ends after it.
"""

import argparse
import os
import random
import statistics
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from bench import postgres
from bench.ingest.load import drive
from bench.ingest.peer import subscribed
from bench.ingest.stage import START, Site, Stage, build, opened, wait_for
from bench.measure import Aim, Report, at_least, skip
from fleet_contract import batches
from fleet_contract.messages import Batch, Lane, Result
from fleet_server.mqtt import mosquitto
from fleet_server.trust.device_ca import SERVER_IDENTITY

_PEER = "paho, keeps nothing"
_SHARE, _ROWS_PER_S = 0.6, 600_000
_LARGE = 100
_DEVICES = 50
_PATIENCE_S = 120.0


@dataclass(frozen=True)
class Setup:
    store: str
    workers: int

    def __str__(self) -> str:
        return f"{self.store}, {self.workers} worker{'s' if self.workers > 1 else ''}"


@dataclass(frozen=True)
class Run:
    """Stored and acknowledged a second; and `lake_rows_per_s` when the time until the compactor has everything counts too."""

    rows_per_s: float
    lake_rows_per_s: float = 0.0
    lost: int = 0


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.epilog = "example: python -m bench ingest --seconds 3 --rounds 1 --rows 100 --stores sqlite"
    parser.add_argument("--seconds", type=at_least(1), default=6, help="of each run (default: %(default)s)")
    parser.add_argument("--rounds", type=at_least(1), default=3, help="the median counts (default: %(default)s)")
    parser.add_argument("--rows", type=at_least(1), nargs="+", default=(1, _LARGE), help="in one message (default: 1 100)")
    parser.add_argument("--stores", choices=("sqlite", "postgresql"), nargs="+", default=("sqlite", "postgresql"))


def run(seconds: int, rounds: int, rows: Sequence[int], stores: Sequence[str]) -> Report:
    if mosquitto.find(os.environ.get("PATH", os.defpath)) is None:
        return skip("ingest", "Mosquitto is not installed")
    obstacle = postgres.obstacle() if "postgresql" in stores else None
    wanted = [store for store in stores if store != "postgresql" or obstacle is None]
    setups = [Setup(store, workers) for store in wanted for workers in (1, 2)]
    measured: dict[tuple[str, int], list[Run]] = {}
    with ExitStack() as stack, tempfile.TemporaryDirectory(prefix="ingest-") as folder:
        cluster = stack.enter_context(postgres.running("max_wal_size=4GB")) if "postgresql" in wanted else None
        stage = build(Path(folder), _DEVICES, stack)
        for number in range(rounds):
            for each in rows:
                sent = _batch(each)
                for setup in setups:
                    measured.setdefault((_PEER, each), []).append(_peer(stage, sent, seconds))
                    name = f"{setup.store}_{setup.workers}_{each}_{number}"
                    with opened(stage, name, cluster if setup.store == "postgresql" else None) as site:
                        measured.setdefault((str(setup), each), []).append(_server(site, setup.workers, sent, seconds))
    note = [] if obstacle is None else [("PostgreSQL", f"skipped: {obstacle}", *[""] * (len(_HEAD) - 2))]
    return Report("ingest", [_HEAD, *_lines(measured), *note], _aims(measured, setups, rows))


def _peer(stage: Stage, sent: Batch, seconds: float) -> Run:
    with subscribed(stage.port, stage.tls(SERVER_IDENTITY)) as count, stage.senders() as senders:
        return Run(drive(senders, [sent], seconds, lambda: count.value).rate * sent.count)


def _server(site: Site, workers: int, batch: Batch, seconds: float) -> Run:
    with site.compactor(), site.workers(workers), site.stage.senders() as senders:
        sent = drive(senders, [batch], seconds)
        late_s = wait_for(lambda: site.inbox.backlog().messages == 0, "the compactor has everything", _PATIENCE_S)
        rows = sent.messages * batch.count
        return Run(rows / sent.seconds, rows / (sent.seconds + late_s), rows - site.stored())


def _batch(rows: int) -> Batch:
    draw = random.Random(rows)
    made = [
        Result(
            START + timedelta(milliseconds=40 * number),
            "5e" * 32,
            f"frame-{number:08d}",
            draw.choice(("ok", "scratch", "dent")),
            round(draw.random(), 4),
            draw.randint(900, 1_400),
        )
        for number in range(rows)
    ]
    return batches.make("e1", Lane.TELEMETRY, 0, made, mono_us=[40_000 * number for number in range(rows)], boot="b1")


_HEAD = ("setup, rows a message", "rows/s", "messages/s", "of paho", "rows/s into the lake", "lost")


def _rate(runs: Sequence[Run]) -> float:
    return statistics.median(run.rows_per_s for run in runs)


def _lake_rate(runs: Sequence[Run]) -> float:
    return statistics.median(run.lake_rows_per_s for run in runs)


def _lines(measured: dict[tuple[str, int], list[Run]]) -> list[tuple[str, ...]]:
    lines = []
    for (name, rows), runs in sorted(measured.items(), key=lambda item: (item[0][1], item[0][0] != _PEER)):
        rate = _rate(runs)
        share = rate / _rate(measured[_PEER, rows])
        rest = ("", "") if name == _PEER else (f"{_lake_rate(runs):,.0f}", str(sum(run.lost for run in runs)))
        lines.append((f"{name}, {rows}", f"{rate:,.0f}", f"{rate / rows:,.0f}", f"{share:.2f}", *rest))
    return lines


def _aims(measured: dict[tuple[str, int], list[Run]], setups: Sequence[Setup], rows: Sequence[int]) -> list[Aim]:
    aims = [Aim("rows lost or stored twice", float(sum(abs(run.lost) for runs in measured.values() for run in runs)), 0, at_most=True)]
    if _LARGE not in rows:
        return aims
    for store in dict.fromkeys(setup.store for setup in setups):
        names = [str(setup) for setup in setups if setup.store == store]
        best = max(names, key=lambda name: _rate(measured[name, _LARGE]))
        rate = _rate(measured[best, _LARGE])
        aims.append(Aim(f"{best}: share of what paho receives", rate / _rate(measured[_PEER, _LARGE]), _SHARE))
        aims.append(Aim(f"{best}: rows/s stored and acknowledged", rate, _ROWS_PER_S))
        aims.append(Aim(f"{best}: rows/s all the way into the lake", _lake_rate(measured[best, _LARGE]), _ROWS_PER_S))
    return aims
