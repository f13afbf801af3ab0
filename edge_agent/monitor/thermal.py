"""Whether the board is too hot for its profile. Told once when it passes a limit, and once when it has cooled down."""

import logging
from enum import IntEnum
from pathlib import Path

from edge_agent.errors import Retry
from edge_agent.ports import Clock, Store
from firmware_profiles.catalog import Thermal
from fleet_contract.messages import Event

log = logging.getLogger(__name__)

_EVERY_S = 10.0
_COOLING_C = 5.0
"""So far below a limit the board counts as cooler again: it swings about the limit while it slows itself down."""


class Heat(IntEnum):
    """SLOWED: the board slows itself down; TOO_HOT: it is where it must not go."""

    COOL = 0
    SLOWED = 1
    TOO_HOT = 2


_KINDS = {Heat.COOL: "board.cooled", Heat.SLOWED: "board.hot", Heat.TOO_HOT: "board.too-hot"}


def judge(before: Heat, celsius: float, thermal: Thermal) -> Heat:
    """Pure."""
    now = Heat.COOL
    for heat, limit_c in ((Heat.SLOWED, thermal.throttle_c), (Heat.TOO_HOT, thermal.limit_c)):
        if limit_c is not None and celsius >= limit_c - (_COOLING_C if before >= heat else 0.0):
            now = heat
    return now


def read_celsius(root: Path, zone: str) -> float | None:
    """Of the zone of that type below `root`; None where the kernel has none or does not say."""
    for folder in sorted((root / "sys" / "class" / "thermal").glob("thermal_zone*")):
        try:
            if (folder / "type").read_text().strip() == zone:
                return int((folder / "temp").read_text()) / 1000
        except (OSError, ValueError):
            continue
    return None


class Thermometer:
    """`look` may be called at any rate, by one thread."""

    def __init__(self, thermal: Thermal | None, root: Path, store: Store, clock: Clock) -> None:
        """Does nothing without limits."""
        self._thermal = thermal
        self._root = root
        self._store = store
        self._clock = clock
        self._heat = Heat.COOL
        self._next_s = clock.monotonic_s()

    def look(self) -> None:
        thermal, now_s = self._thermal, self._clock.monotonic_s()
        if thermal is None or now_s < self._next_s:
            return
        self._next_s = now_s + _EVERY_S
        celsius = read_celsius(self._root, thermal.zone)
        heat = self._heat if celsius is None else judge(self._heat, celsius, thermal)
        if celsius is not None and heat is not self._heat and self._tell(heat, celsius, thermal):
            self._heat = heat

    def _tell(self, heat: Heat, celsius: float, thermal: Thermal) -> bool:
        """Whether it is told: a disk that fails is asked again at the next look."""
        limit_c = thermal.throttle_c if heat is Heat.SLOWED and thermal.throttle_c is not None else thermal.limit_c
        try:
            detail = {"zone": thermal.zone, "celsius": celsius, "limit_c": limit_c}
            self._store.append([Event(at=self._clock.now(), kind=_KINDS[heat], detail=detail)])
        except Retry as error:
            log.warning("the server will not hear that %s is at %.1f degrees: %s", thermal.zone, celsius, error)
            return False
        return True
