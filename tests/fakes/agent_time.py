"""A machine whose clock somebody may set."""

from datetime import datetime, timedelta

from edge_agent.ports import Clock


class WallClock(Clock):
    """`set` steps the wall clock; `pass_s` lets time pass on both clocks."""

    def __init__(self, wall: datetime) -> None:
        self._wall, self._elapsed_s = wall, 0.0

    def now(self) -> datetime:
        return self._wall + timedelta(seconds=self._elapsed_s)

    def monotonic_s(self) -> float:
        return self._elapsed_s

    def set(self, wall: datetime) -> None:
        self._wall = wall - timedelta(seconds=self._elapsed_s)

    def pass_s(self, seconds: float) -> None:
        self._elapsed_s += seconds
