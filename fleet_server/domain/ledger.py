"""produced = stored + queued + dropped, per device, epoch and lane. Pure.

A report is some seconds old when it is judged, and more is stored meanwhile: so sums alone would hide what is missing behind what is new. What
is stored is therefore looked at by number, up to where the report reaches.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from fleet_contract import limits


@dataclass(frozen=True)
class Balance:
    """`difference` is produced - stored - queued - dropped, less what of it is excused. A report lags behind what is stored, and a
    record on its way to its acknowledgement is both stored here and queued there, so while a device works the difference may be below zero; `lost`
    is never above zero unless records are really missing, or wait to be stored after their acknowledgement."""

    difference: int
    lost: int
    balanced: bool


def balance(*, produced: int, queued: int, dropped: Mapping[str, int], acknowledged: int, stored: int, excused: int = 0) -> Balance:
    """`acknowledged` is what the device has deleted on our word: more than is stored means that it was lost here. `excused` may be missing."""
    missing = produced - stored - queued - sum(dropped.values())
    difference = missing - min(excused, max(0, missing))
    lost = max(0, difference, acknowledged - stored - excused)
    return Balance(difference, lost, difference == 0 and lost == 0)


@dataclass(frozen=True)
class Report:
    """What a device says of one lane; `dropped` for all reasons together; `unsure` of them may be stored all the same: they were damaged
    on the device, and nobody knows whether they had arrived. `oldest` None: an agent that does not tell."""

    produced: int
    acknowledged: int
    queued: int
    dropped: int
    oldest: int | None = None
    unsure: int = 0

    @property
    def adds_up(self) -> bool:
        return self.produced == self.acknowledged + self.queued + self.dropped

    @property
    def decided(self) -> int:
        """Below it every number was stored, dropped, or lost."""
        if self.queued == 0:
            return self.produced
        return 0 if self.oldest is None else min(self.oldest, self.produced)


class Numbers(Protocol):
    """Which sequence numbers of a stream are stored. Where it has been cut short, numbers below the oldest that is queued may be among them that
    are not."""

    def below(self, end: int) -> int:
        """How many are below `end`."""

    def first_hole(self, start: int = 0, end: int | None = None) -> int | None:
        """The lowest that is not among them, in [start, end)."""


@dataclass(frozen=True)
class Verdict:
    """`lost` are missing for certain, the lowest of them not before `first_missing`; `surplus` is stored here though the device never made it, or
    says that it dropped it. Below `settled` everything is accounted for."""

    lost: int
    surplus: int
    first_missing: int | None
    settled: int
    misreported: bool = False

    @property
    def balanced(self) -> bool:
        return not (self.lost or self.surplus or self.misreported)


def judge(report: Report, numbers: Numbers, stored: int, *, settled: int = 0, beyond: int = 0, excused: int = 0) -> Verdict:
    """Among `numbers` (`stored` in all) is everything that had been acknowledged when the report was made. `beyond` tells how far what was stored
    before the device made its report reaches above what it says to have made. `excused` may be missing, though nobody dropped them."""
    given_up, unsure = report.dropped + excused, report.unsure + excused
    hidden = numbers.below(limits.MAX_COUNT) - stored
    lacking_decided = report.decided - numbers.below(report.decided) + hidden
    lacking = report.produced - numbers.below(report.produced) + hidden
    lost = max(0, lacking_decided - given_up, lacking - given_up - report.queued)
    surplus = max(0, given_up - unsure - lacking, beyond)
    end = report.decided if lacking_decided > given_up else report.produced
    first = numbers.first_hole(min(settled, end), end) if lost else None
    exact = report.adds_up and not lost and not surplus and 0 <= given_up - lacking_decided <= unsure
    return Verdict(lost, surplus, first, max(settled, report.decided) if exact else settled, not report.adds_up)
