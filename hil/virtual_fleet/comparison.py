"""The devices' own ledgers against the server's: lane by lane, to the record. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hil.virtual_fleet.tally import DeviceCounts, LaneCounts


@dataclass(frozen=True)
class Mismatch:
    device: str
    lane: str
    expected: str
    stored: int


@dataclass(frozen=True)
class Comparison:
    """Sums over all devices and lanes. `unsettled` records are still queued on devices: whether they are stored is not known to these."""

    devices: int
    produced: int
    acknowledged: int
    stored: int
    dropped: int
    unsettled: int
    mismatches: tuple[Mismatch, ...]

    @property
    def balances(self) -> bool:
        return not self.mismatches

    @property
    def settled(self) -> bool:
        """produced = stored + dropped, and nothing else."""
        return self.balances and self.unsettled == 0


def compare(devices: Sequence[DeviceCounts], ledger: Iterable[Mapping[str, Any]]) -> Comparison:
    """`ledger` holds the lines of GET /v1/ledger; those of other devices and of other epochs are passed over."""
    stored_of = {(line["device"], line["epoch"], line["lane"]): int(line["stored"]) for line in ledger}
    lanes = [(each.device, each.epoch, lane, counts) for each in devices for lane, counts in each.lanes.items()]
    stored = [stored_of.get((device, epoch, lane), 0) for device, epoch, lane, _ in lanes]
    wrong = [
        Mismatch(device, lane, _expected(counts), found)
        for (device, _, lane, counts), found in zip(lanes, stored, strict=True)
        if not _fits(counts, found)
    ]
    return Comparison(
        devices=len(devices),
        produced=sum(counts.produced for *_, counts in lanes),
        acknowledged=sum(counts.acknowledged for *_, counts in lanes),
        stored=sum(stored),
        dropped=sum(counts.dropped for *_, counts in lanes),
        unsettled=sum(counts.queued for *_, counts in lanes),
        mismatches=tuple(wrong),
    )


def _fits(counts: LaneCounts, stored: int) -> bool:
    """What is still queued may be stored already: its acknowledgement was on its way."""
    return counts.acknowledged <= stored <= counts.acknowledged + counts.queued


def _expected(counts: LaneCounts) -> str:
    most = counts.acknowledged + counts.queued
    return str(most) if most == counts.acknowledged else f"{counts.acknowledged} to {most}"
