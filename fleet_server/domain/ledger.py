"""produced = stored + queued + dropped, per device, epoch and lane. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Balance:
    """`difference` is produced - stored - queued - dropped. A report lags behind what is stored, and a record on its way to its acknowledgement
    is both stored here and queued there, so while a device works the difference may be below zero; `lost` is never above zero unless
    records are really missing."""

    difference: int
    lost: int
    balanced: bool


def balance(*, produced: int, queued: int, dropped: Mapping[str, int], acknowledged: int, stored: int) -> Balance:
    """`acknowledged` is what the device has deleted on our word: more than is stored means that it was lost here."""
    difference = produced - stored - queued - sum(dropped.values())
    lost = max(0, difference, acknowledged - stored)
    return Balance(difference, lost, difference == 0 and lost == 0)
