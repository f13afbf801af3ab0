"""When and how fast a download may go: pure rules."""

from dataclasses import dataclass
from typing import Literal

from edge_agent.errors import Fatal
from edge_agent.hours import DailyWindow

LEAST_BYTES_PER_S = 512
"""Of right bytes; a way that brings fewer over SPAN_S is given up."""
SPAN_S = 60.0
_LEAST_RATE_BYTES_PER_S, _MOST_RATE_BYTES_PER_S = 1 << 10, 1 << 30
WAYS = ("auto", "mqtt", "http")


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
