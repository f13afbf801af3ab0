"""ports.Store in memory, as the uplink needs it: units are laid in whole, and what was asked of it can be looked at."""

from collections.abc import Collection, Sequence

from fleet_contract import batches
from fleet_contract.messages import LANE_OF, Batch, Lane, LaneLedger, Record

Unit = tuple[Lane, int]


class MemoryStore:
    epoch = "epoch-1"

    def __init__(self) -> None:
        self.units: dict[Unit, Batch] = {}
        self.handed: set[Unit] = set()
        self.produced = dict.fromkeys(Lane, 0)
        self.on_append = lambda: None
        self._fresh_from = dict.fromkeys(Lane, 0)

    def append(self, records: Sequence[Record], *, cursor: str | None = None, marks: dict[str, str] | None = None) -> None:
        """One unit of one lane."""
        lane = LANE_OF[type(records[0])]
        first = self.produced[lane]
        self.units[lane, first] = batches.make(self.epoch, lane, first, records)
        self.produced[lane] = first + len(records)
        self.on_append()

    def batches(self, max_batches: int, *, fresh: bool, lanes: Collection[Lane] = tuple(Lane)) -> list[Batch]:
        waiting = [unit for unit in self.units if unit not in self.handed and unit[0] in lanes and self._is_fresh(unit) == fresh]
        taken = sorted(waiting, key=lambda unit: (list(Lane).index(unit[0]), unit[1]))[:max_batches]
        self.handed |= set(taken)
        return [self.units[unit] for unit in taken]

    def rewind(self, units: Sequence[Unit] | None = None) -> None:
        self.handed -= self.handed.copy() if units is None else set(units)
        if units is None:
            self._fresh_from = dict(self.produced)

    def acknowledge(self, lane: Lane, ranges: Sequence[tuple[int, int]]) -> None:
        for unit, batch in list(self.units.items()):
            if unit[0] == lane and any(first <= batch.first and batch.last <= last for first, last in ranges):
                del self.units[unit]

    def ledger(self) -> dict[Lane, LaneLedger]:
        queued = {lane: sum(batch.count for unit, batch in self.units.items() if unit[0] == lane) for lane in Lane}
        return {lane: LaneLedger(self.produced[lane], self.produced[lane] - queued[lane], queued[lane]) for lane in Lane}

    def _is_fresh(self, unit: Unit) -> bool:
        lane, first = unit
        return lane is Lane.EVENTS or first >= self._fresh_from[lane]
