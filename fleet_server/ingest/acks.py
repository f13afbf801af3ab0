"""What is told to devices of the batches that are committed: one Ack for each device, epoch and lane, its ranges joined where they touch."""

from collections.abc import Iterable
from typing import NamedTuple

from fleet_contract.messages import Ack, Batch, Lane


class Stored(NamedTuple):
    """The numbers of one batch, or more that touch."""

    device: str
    epoch: str
    lane: Lane
    first: int
    last: int


def stored(device: str, batch: Batch) -> Stored:
    """A thinned batch's own gaps are its device's affair: they are within."""
    return Stored(device, batch.epoch, batch.lane, batch.first, batch.last)


def merge(batches: Iterable[Stored]) -> list[tuple[str, Ack]]:
    """By device."""
    ranges: dict[tuple[str, str, Lane], list[tuple[int, int]]] = {}
    for device, epoch, lane, first, last in batches:
        ranges.setdefault((device, epoch, lane), []).append((first, last))
    return [(device, Ack(epoch, lane, _join(found))) for (device, epoch, lane), found in ranges.items()]


def _join(ranges: list[tuple[int, int]]) -> list[tuple[int, int]]:
    if len(ranges) == 1:
        return ranges
    ranges.sort()
    joined = ranges[:1]
    for first, last in ranges[1:]:
        if first <= joined[-1][1] + 1:
            joined[-1] = (joined[-1][0], max(last, joined[-1][1]))
        else:
            joined.append((first, last))
    return joined
