"""When the key holders have to be called: pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

WARN_BEFORE = timedelta(days=45)
"""Time enough to bring two people and their keys together."""
OFFLINE = ("root", "targets", "releases")


@dataclass(frozen=True)
class Renewal:
    role: str
    expires: datetime
    expired: bool


def renewals(expiries: Mapping[str, datetime], now: datetime) -> list[Renewal]:
    """The roles whose metadata people must renew soon, the most urgent first."""
    due = [role for role in OFFLINE if role in expiries and expiries[role] - now < WARN_BEFORE]
    return [Renewal(role, expiries[role], expiries[role] <= now) for role in sorted(due, key=lambda role: expiries[role])]
