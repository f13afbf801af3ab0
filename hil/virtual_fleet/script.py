"""Under which conditions a device is at a moment of its scenario. Pure."""

import hashlib
from dataclasses import dataclass, replace
from itertools import pairwise

from hil.virtual_fleet.scenario import (
    ClockJump,
    Disturbance,
    Drift,
    Flood,
    LossyLink,
    Outage,
    ReconnectStorm,
    Scenario,
    SlowLink,
)


@dataclass(frozen=True)
class Conditions:
    """`storms` counts the storms that have hit the device so far: one more than before breaks its connection. `bytes_per_s` None: no bound."""

    reachable: bool = True
    storms: int = 0
    loss: float = 0.0
    bytes_per_s: float | None = None
    rate: float = 1.0
    clock_offset_s: float = 0.0
    drift: float = 0.0


@dataclass(frozen=True)
class Phase:
    """A stretch of the scenario in which nothing changes, named after what is wrong in it."""

    name: str
    begin_s: float
    end_s: float


class Script:
    def __init__(self, scenario: Scenario) -> None:
        self._scenario = scenario
        self._disturbances = scenario.disturbances

    def changes(self) -> list[float]:
        """The moments, in seconds from the start and in order, at which anything changes for anybody."""
        moments = {0.0, *(each.at_s for each in self._disturbances), *(_end_s(each) for each in self._disturbances)}
        return sorted(moment for moment in moments if moment <= self._scenario.duration_s)

    def phases(self) -> list[Phase]:
        """From the start to the end of the load, without gaps; the last is `settling`, which has no end."""
        duration_s = self._scenario.duration_s
        bounds = [*[moment for moment in self.changes() if moment < duration_s], duration_s]
        found = [Phase(self._name(begin_s), begin_s, end_s) for begin_s, end_s in pairwise(bounds)]
        return [*found, Phase("settling", duration_s, float("inf"))]

    def conditions(self, device: str, at_s: float) -> Conditions:
        """After the end of the load nothing is disturbed any more: what is left has to come through."""
        found = Conditions()
        for number, each in enumerate(self._disturbances):
            begun = at_s >= each.at_s and self._meets(number, each, device)
            if begun and isinstance(each, ReconnectStorm):
                found = replace(found, storms=found.storms + 1)
            elif begun and at_s < min(_end_s(each), self._scenario.duration_s):
                found = _under(found, each)
        return found

    def fetches(self, device: str) -> bool:
        """Whether the device fetches the bundles that it is ordered."""
        return _draw(self._scenario.seed, "fetch", device) < self._scenario.fetch_share

    def _meets(self, number: int, each: Disturbance, device: str) -> bool:
        return each.share >= 1 or _draw(self._scenario.seed, str(number), device) < each.share

    def _name(self, at_s: float) -> str:
        active = [_kind(each) for each in self._disturbances if each.at_s <= at_s < _end_s(each)]
        active += [_kind(each) for each in self._disturbances if isinstance(each, ReconnectStorm) and each.at_s == at_s]
        return " + ".join(dict.fromkeys(active)) or "steady"


def _under(found: Conditions, each: Disturbance) -> Conditions:
    match each:
        case Outage():
            return replace(found, reachable=False)
        case LossyLink(loss=loss):
            return replace(found, loss=1 - (1 - found.loss) * (1 - loss))
        case SlowLink(bytes_per_s=bound):
            return replace(found, bytes_per_s=bound if found.bytes_per_s is None else min(bound, found.bytes_per_s))
        case Flood(factor=factor):
            return replace(found, rate=found.rate * factor)
        case ClockJump(offset_s=offset_s):
            return replace(found, clock_offset_s=found.clock_offset_s + offset_s)
        case Drift(shift=shift):
            return replace(found, drift=found.drift + shift)
    return found


def _end_s(each: Disturbance) -> float:
    return each.at_s if isinstance(each, ReconnectStorm) else each.at_s + each.for_s


def _kind(each: Disturbance) -> str:
    return str(type(each).__struct_config__.tag)


def _draw(seed: int, what: str, device: str) -> float:
    """Uniform in [0, 1), the same whenever and wherever it is asked for."""
    digest = hashlib.blake2b(f"{seed}/{what}/{device}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64
