"""Is a device's key in two hands? Pure.

Each start of an agent draws a new instance. A restart goes from one to the next and never back; two holders of one key take the session from
each other by turns, so one comes back that had given way.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

WINDOW = timedelta(hours=1)
MOST_STARTS = 3_600
"""Within WINDOW: no crash loop starts and connects every second; somebody would fill the memory of who was there before."""


class Reason(StrEnum):
    """Why a device is quarantined."""

    CLONED_KEY = "cloned-key"
    TOO_MANY_STARTS = "too-many-starts"
    TWIN_RECORDS = "twin-records"
    TOO_MANY_EPOCHS = "too-many-epochs"
    FLOOD = "flood"
    BY_HAND = "by-hand"


@dataclass(frozen=True)
class Holders:
    """`current` spoke last; `left` are those before it, with the time at which another took their place."""

    current: str | None = None
    left: Mapping[str, datetime] = field(default_factory=dict)


def see(holders: Holders, instance: str, at: datetime) -> tuple[Holders, Reason | None]:
    """What is known after `instance` has spoken, and the reason to quarantine the device if there is one. An agent that names no instance
    counts as one of its own: silence about it hides nothing."""
    if instance == holders.current:
        return holders, None
    left = {one: since for one, since in holders.left.items() if at - since <= WINDOW}
    if holders.current is not None:
        left[holders.current] = at
    seen = Holders(instance, left)
    if instance in left:
        return seen, Reason.CLONED_KEY
    return seen, Reason.TOO_MANY_STARTS if len(left) > MOST_STARTS else None
