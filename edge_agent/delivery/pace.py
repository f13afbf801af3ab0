"""When and how fast a download may go: pure rules."""

import re
from dataclasses import dataclass, replace
from datetime import datetime, time
from typing import Literal

from edge_agent.errors import Fatal

LEAST_BYTES_PER_S = 512
"""Of right bytes; a way that brings fewer over SPAN_S is given up."""
SPAN_S = 60.0
_WINDOW = re.compile(r"([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-3]):([0-5]\d)")

_LEAST_RATE_BYTES_PER_S, _MOST_RATE_BYTES_PER_S = 1 << 10, 1 << 30
WAYS = ("auto", "mqtt", "http")


@dataclass(frozen=True)
class DailyWindow:
    """From `begin` until `end`, UTC, each day; over midnight when it ends before it begins."""

    begin: time
    end: time

    def is_open(self, now: datetime) -> bool:
        """`now` is in UTC."""
        at = now.time()
        return self.begin <= at < self.end if self.begin < self.end else at >= self.begin or at < self.end


def parse_window(text: str) -> DailyWindow:
    """`HH:MM-HH:MM`. Raises Fatal."""
    found = _WINDOW.fullmatch(text)
    if not found:
        raise Fatal(f"download_window is {text!r}, it must be HH:MM-HH:MM, in UTC", code="setting")
    hours = [int(digits) for digits in found.groups()]
    begin, end = time(*hours[:2]), time(*hours[2:])
    if begin == end:
        raise Fatal(f"download_window {text!r} is empty: it begins when it ends", code="setting")
    return DailyWindow(begin, end)


@dataclass(frozen=True)
class Manners:
    """What the device's owner allows. `rate_bytes_per_s` None is no limit; on a metered link nothing comes that was not asked for."""

    transport: Literal["auto", "mqtt", "http"] = "auto"
    rate_bytes_per_s: int | None = None
    window: DailyWindow | None = None
    metered: bool = False

    def __post_init__(self) -> None:
        """Raises Fatal naming the setting."""
        rate = self.rate_bytes_per_s
        if rate is not None and not _LEAST_RATE_BYTES_PER_S <= rate <= _MOST_RATE_BYTES_PER_S:
            raise Fatal(f"download_rate is {rate}, it must be {_LEAST_RATE_BYTES_PER_S} to {_MOST_RATE_BYTES_PER_S}", code="setting")
        if self.transport not in WAYS:
            raise Fatal(f"transport is {self.transport!r}, it must be one of {', '.join(WAYS)}", code="setting")

    @property
    def joins_passes(self) -> bool:
        """A pass has the pace of others, and carries blocks for others."""
        return self.rate_bytes_per_s is None and not self.metered

    def blocks_at_once(self, block_bytes: int, most: int) -> int:
        """What one request may ask for: a second's worth, at least one block."""
        return most if self.rate_bytes_per_s is None else max(1, min(most, self.rate_bytes_per_s // block_bytes))


@dataclass(frozen=True)
class Allowance:
    """A token bucket that holds one second's worth; the balance may be negative: then the debt is waited for."""

    rate_bytes_per_s: int
    at_s: float
    balance_bytes: float = 0.0

    def spend(self, count: int, now_s: float) -> "Allowance":
        earned = (now_s - self.at_s) * self.rate_bytes_per_s
        balance = min(self.rate_bytes_per_s, self.balance_bytes + earned) - count
        return replace(self, at_s=now_s, balance_bytes=balance)

    @property
    def wait_s(self) -> float:
        return max(0.0, -self.balance_bytes / self.rate_bytes_per_s)


@dataclass(frozen=True)
class Pulse:
    """Right bytes since the last full span began."""

    since_s: float
    count_bytes: int = 0

    def beat(self, count_bytes: int, now_s: float) -> "Pulse | None":
        """After so many more bytes; None when a span went by with too few."""
        total = self.count_bytes + count_bytes
        if now_s - self.since_s < SPAN_S:
            return Pulse(self.since_s, total)
        return Pulse(now_s) if total >= LEAST_BYTES_PER_S * SPAN_S else None
