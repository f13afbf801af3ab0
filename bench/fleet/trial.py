"""One load on the running server, and what came of it: everything stored, nothing twice, and how far behind the server was at the end."""

import os
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import duckdb

from bench.fleet import processor
from bench.fleet.stage import Stage
from hil.virtual_fleet import running
from hil.virtual_fleet.comparison import Comparison, compare
from hil.virtual_fleet.running import Outcome
from hil.virtual_fleet.scenario import Link, Load, Scenario
from hil.virtual_fleet.tally import Second

_CATCH_UP_S = 60.0
_LOOK_S = 0.25
_LINK = Link(connect_over_s=10, patience_s=30)


@dataclass(frozen=True)
class Trial:
    """`per_s` messages were wanted, `stored_per_s` acknowledged while the load lasted. `lag_s` went by from its end until all was acknowledged,
    `decoded_s` until it was decoded too. `rows` lie in the lake, of `keys` different records. `cpu` is in processors, by part."""

    per_s: float
    stored_per_s: float
    lag_s: float
    decoded_s: float
    outcome: Outcome
    comparison: Comparison
    rows: int
    keys: int
    cpu: Counter[str]

    @property
    def held(self) -> bool:
        """The server kept up with it."""
        return self.stored_per_s >= 0.95 * self.per_s and self.lag_s <= 10


def run(stage: Stage, *, rate: float, rows: int, seconds: float, processes: int, others: Sequence[int] = ()) -> Trial:
    """`others` are more processes whose time counts. `rate` messages a second of each device, of `rows` records each. Raises RigError."""
    load = Load(rate_per_s=rate, records_per_message=rows, status_every_s=60, sketch_every_s=0, event_every_s=0)
    scenario = Scenario(name="bench", duration_s=seconds, settle_s=_CATCH_UP_S, load=load, link=_LINK)
    samples: list[Counter[str]] = []
    roots = [os.getpid(), *others]

    def note(_second: Second) -> None:
        samples.append(processor.used(roots))

    outcome = running.run(stage.identities, stage.devices, scenario, processes=processes, log=stage.log, tell=note)
    ended_s = time.monotonic()
    comparison = _settled(stage, outcome)
    lag_s = max(0.0, (outcome.settled_s or seconds + _CATCH_UP_S) - seconds)
    decoded_s = lag_s + time.monotonic() - ended_s
    rows_stored, keys = _rows_and_keys(stage)
    return Trial(
        per_s=rate * len(stage.devices),
        stored_per_s=outcome.phases[0][1].landed / seconds,
        lag_s=lag_s,
        decoded_s=decoded_s,
        outcome=outcome,
        comparison=comparison,
        rows=rows_stored,
        keys=keys,
        cpu=_spent(samples, seconds),
    )


def _settled(stage: Stage, outcome: Outcome) -> Comparison:
    deadline_s = time.monotonic() + _CATCH_UP_S
    while True:
        found = compare(outcome.devices, stage.api.items("/ledger"))
        if found.balances or time.monotonic() > deadline_s:
            return found
        time.sleep(_LOOK_S)


def _rows_and_keys(stage: Stage) -> tuple[int, int]:
    """Of everything that the lake lists."""
    files = stage.listed()
    if not files:
        return 0, 0
    with duckdb.connect() as connection:
        rows, keys = connection.execute(
            "SELECT sum(n), count(*) FROM (SELECT count(*) AS n FROM read_parquet($files) GROUP BY device, epoch, seq)", {"files": files}
        ).fetchone() or (0, 0)
    return int(rows), int(keys)


def _spent(samples: list[Counter[str]], seconds: float) -> Counter[str]:
    """Share of one processor by part, while the load lasted."""
    if len(samples) < 2:
        return Counter()
    last = samples[min(len(samples), int(seconds)) - 1]
    return Counter({part: (last[part] - samples[0][part]) / max(1, min(len(samples), int(seconds)) - 1) for part in last})
