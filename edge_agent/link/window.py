"""How much may be on its way, and how long an acknowledgement may take: pure. A server that is overloaded must not get everything twice."""

from dataclasses import dataclass, replace

_GAIN, _DEVIATION_GAIN, _DEVIATIONS = 1 / 8, 1 / 4, 4.0
_MAX_DOUBLINGS = 16
_GRACE = 0.25


@dataclass(frozen=True)
class Window:
    """Messages that may be unacknowledged, as TCP has it (RFC 5681): doubled with each round below `threshold`, one more with each round above it,
    halved when something was not acknowledged in time."""

    size: float
    most: int
    threshold: float

    def grown(self, acknowledged: int) -> "Window":
        """Only what was fully used grows: that few messages went well says nothing of many."""
        more = acknowledged if self.size < self.threshold else acknowledged / self.size
        return replace(self, size=min(float(self.most), self.size + more))

    def halved(self) -> "Window":
        return replace(self, size=max(1.0, self.size / 2), threshold=max(2.0, self.size / 2))

    def room(self, flying: int) -> int:
        return max(0, int(self.size) - flying)


def opened(most: int, first: int = 4) -> Window:
    """For a connection that nothing is known of."""
    return Window(float(min(first, most)), most, float(most))


@dataclass(frozen=True)
class Timeout:
    """How long to wait for an acknowledgement (RFC 6298): the smoothed time that they took and four deviations, doubled with each silence, until one
    comes of a message that was sent but once (Karn). Never below `least_s` or above `longest_s`."""

    least_s: float
    longest_s: float
    smooth_s: float | None = None
    deviation_s: float = 0.0
    doublings: int = 0

    @property
    def value_s(self) -> float:
        """Into silence."""
        return min(self.longest_s, self.base_s * 2**self.doublings)

    @property
    def base_s(self) -> float:
        return min(self.longest_s, max(self.least_s, self._measured_s))

    @property
    def grace_s(self) -> float:
        """How long acknowledgements may come out of order."""
        return min(self.longest_s, max(self.least_s * _GRACE, self._measured_s))

    @property
    def _measured_s(self) -> float:
        return 0.0 if self.smooth_s is None else self.smooth_s + _DEVIATIONS * self.deviation_s

    def measured(self, took_s: float) -> "Timeout":
        if self.smooth_s is None:
            return replace(self, smooth_s=took_s, deviation_s=took_s / 2, doublings=0)
        deviation_s = self.deviation_s + _DEVIATION_GAIN * (abs(took_s - self.smooth_s) - self.deviation_s)
        return replace(self, smooth_s=self.smooth_s + _GAIN * (took_s - self.smooth_s), deviation_s=deviation_s, doublings=0)

    def expired(self) -> "Timeout":
        return replace(self, doublings=min(_MAX_DOUBLINGS, self.doublings + 1))
