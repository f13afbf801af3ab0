"""Hours of the day between which something may go, or may not. Pure."""

import re
from dataclasses import dataclass
from datetime import datetime, time, tzinfo

from edge_agent.errors import Fatal

_WINDOW = re.compile(r"([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-3]):([0-5]\d)")


@dataclass(frozen=True)
class DailyWindow:
    """From `begin` until `end` each day, by the clock on the wall; over midnight when it ends before it begins. Where clocks are set forward over its
    begin it begins with the hour that is there; where an hour comes twice, both are within."""

    begin: time
    end: time

    def is_open(self, now: datetime) -> bool:
        """`now` is in the zone that the window is meant in."""
        at = now.time()
        return self.begin <= at < self.end if self.begin < self.end else at >= self.begin or at < self.end


@dataclass(frozen=True)
class QuietHours:
    """`zone` None is the machine's own."""

    windows: tuple[DailyWindow, ...] = ()
    zone: tzinfo | None = None

    def contain(self, now: datetime) -> bool:
        """`now` is aware."""
        return bool(self.windows) and any(window.is_open(now.astimezone(self.zone)) for window in self.windows)


def parse_window(text: str, name: str) -> DailyWindow:
    """`HH:MM-HH:MM`. Raises Fatal naming the setting."""
    found = _WINDOW.fullmatch(text)
    if not found:
        raise Fatal(f"{name} is {text!r}, it must be HH:MM-HH:MM", code="setting")
    hours = [int(digits) for digits in found.groups()]
    begin, end = time(*hours[:2]), time(*hours[2:])
    if begin == end:
        raise Fatal(f"{name} {text!r} is empty: it begins when it ends", code="setting")
    return DailyWindow(begin, end)
