"""One load on the running server, and what came of it: everything stored, nothing twice, and how far behind the server was at the end."""

import os
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import duckdb

from bench.fleet import processor
from bench.fleet.stage import Stage
from hil.virtual_fleet import running
from hil.virtual_fleet.comparison import Comparison
from hil.virtual_fleet.play import settled_comparison
from hil.virtual_fleet.running import Outcome
from hil.virtual_fleet.scenario import Link, Load, Scenario
from hil.virtual_fleet.tally import Second

_CATCH_UP_S = 60.0
MAX_LAG_S, SHARE = 10.0, 0.95
"""A load is held where so much of it is acknowledged while it lasts, and everything is decoded so soon after it."""
_LINK = Link(connect_over_s=1, patience_s=30)


@dataclass(frozen=True)
class Trial:
    """`per_s` messages were wanted for `seconds`, `stored_per_s` acknowledged meanwhile. From the end of the load `lag_s` went by until all was
    acknowledged, `decoded_s` until it was decoded too. `rows` lie in the lake, of `keys` different records. `behind` are the messages that waited in
    the server's inbox, second by second. `cpu` is in processors, by part."""

    per_s: float
    seconds: float
    stored_per_s: float
    lag_s: float
    decoded_s: float
    outcome: Outcome
    comparison: Comparison
    rows: int
    keys: int
    behind: dict[int, int]
    cpu: Counter[str]

    @property
    def held(self) -> bool:
        """The server kept up with it."""
        return self.stored_per_s >= SHARE * self.per_s and self.decoded_s <= MAX_LAG_S

    @property
    def acknowledged(self) -> int:
        """Of telemetry, which the lake has."""
        return sum(device.lanes["telemetry"].acknowledged for device in self.outcome.devices)

    @property
    def dropped(self) -> int:
        """What devices gave up because too much waited."""
        return sum(lane.dropped for device in self.outcome.devices for lane in device.lanes.values())


@dataclass
class _Watch:
    """What is noted while it goes: once a second from the start on."""

    stage: Stage
    roots: list[int]
    tell: Callable[[str], None]
    behind: dict[int, int] = field(default_factory=dict)
    spent: dict[int, Counter[str]] = field(default_factory=dict)

    def note(self, second: Second) -> None:
        if second.at_s == 0:
            self.tell(f"{second.online:,} connected")
            return
        self.spent[second.at_s] = processor.used(self.roots)
        self.behind[second.at_s] = self.stage.waiting()
        waits = f"{second.queued:,} wait on devices, {self.behind[second.at_s]:,} in the inbox"
        self.tell(f"second {second.at_s}: {second.produced:,} recorded, {second.acknowledged:,} acknowledged, {waits}")


def run(
    stage: Stage, *, rate: float, rows: int, seconds: float, processes: int, others: Sequence[int] = (), tell: Callable[[str], None]
) -> Trial:
    """`others` are more processes whose time counts. `rate` messages a second of each device, of `rows` records each. Raises RigError."""
    load = Load(rate_per_s=rate, records_per_message=rows, status_every_s=60, sketch_every_s=0, event_every_s=0)
    scenario = Scenario(name="bench", duration_s=seconds, settle_s=_CATCH_UP_S, load=load, link=_LINK)
    watch, since = _Watch(stage, [os.getpid(), *others], tell), datetime.now(UTC)
    outcome = running.run(
        stage.identities,
        stage.devices,
        scenario,
        processes=processes,
        log=stage.log,
        knows=lambda online: stage.online(since) >= online,
        tell=watch.note,
    )
    ended_s = time.monotonic()
    comparison = settled_comparison(outcome, stage.ledger, tell)
    lag_s = max(0.0, (outcome.settled_s or seconds + _CATCH_UP_S) - seconds)
    rows_stored, keys = _rows_and_keys(stage)
    return Trial(
        per_s=rate * len(stage.devices),
        seconds=seconds,
        stored_per_s=outcome.phases[0][1].landed / seconds,
        lag_s=lag_s,
        decoded_s=max(lag_s, decoded_after(watch.behind, seconds) or lag_s + time.monotonic() - ended_s),
        outcome=outcome,
        comparison=comparison,
        rows=rows_stored,
        keys=keys,
        behind=watch.behind,
        cpu=shares(watch.spent, seconds),
    )


def decoded_after(behind: dict[int, int], seconds: float) -> float | None:
    """Seconds from the end of the load until nothing waited in the inbox any more; None where something did as long as anybody looked."""
    if not behind or behind[max(behind)]:
        return None
    last = max((at_s for at_s, waiting in behind.items() if waiting), default=0)
    return max(0.0, min(at_s for at_s in behind if at_s > last) - seconds)


def shares(spent: dict[int, Counter[str]], seconds: float) -> Counter[str]:
    """Processors by part, while the load lasted; `spent` is by second, and adds up."""
    known = sorted(at_s for at_s in spent if at_s <= seconds)
    if len(known) < 2:
        return Counter()
    first, last = known[0], known[-1]
    return Counter({part: (used - spent[first][part]) / (last - first) for part, used in spent[last].items()})


def lags(seconds: Sequence[Second], per_s: float, rows: int) -> list[float]:
    """How many seconds' worth of records waited on devices, second by second."""
    return [second.queued / (per_s * rows) for second in seconds]


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
