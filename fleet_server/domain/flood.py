"""Who sends more than a device may, and what follows. Pure: the time is an argument.

Each device has two leaky buckets in the form of the generic cell rate algorithm (ITU-T I.371): one number each, the time at which what was sent so
far would have been sent at the rate.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

_FIRST_BREAK = timedelta(seconds=60)
_LONGEST_BREAK = timedelta(hours=1)
FORGIVEN_AFTER = timedelta(hours=24)
MOST_BREAKS = 5
"""A device that floods once more within FORGIVEN_AFTER of the last is set apart, until a person looks at it."""
_MAX_DEVICES = 65_536


@dataclass(frozen=True)
class Rules:
    """What one device may send for ever, and for how long it may send twice that. A device that catches up after an outage stays far below: what
    it has in flight is bounded."""

    messages_per_s: float = 200.0
    bytes_per_s: float = 8e6
    patience_s: float = 30.0

    def share(self, workers: int) -> "Rules":
        """For one of so many workers among whom a device's messages are spread."""
        return Rules(self.messages_per_s / workers, self.bytes_per_s / workers, self.patience_s)


class Meter:
    """Of all devices, in bounded memory; not thread-safe."""

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self._messages: dict[str, float] = {}
        self._bytes: dict[str, float] = {}

    def take(self, device: str, *, size: int, now_s: float, messages: int = 1) -> bool:
        """Count what a device has sent, `size` bytes in all; False when it floods. `now_s` is of a clock that never goes back."""
        rules, limit = self._rules, now_s + self._rules.patience_s
        if len(self._messages) > _MAX_DEVICES:
            self._forget(now_s)
        sent = self._messages[device] = max(self._messages.get(device, now_s), now_s) + messages / rules.messages_per_s
        bulk = self._bytes[device] = max(self._bytes.get(device, now_s), now_s) + size / rules.bytes_per_s
        return sent <= limit and bulk <= limit

    def pardon(self, device: str) -> None:
        """Begin anew with a device, e.g. when its break begins."""
        self._messages.pop(device, None)
        self._bytes.pop(device, None)

    def _forget(self, now_s: float) -> None:
        """A device below its rate is as one that was never seen."""
        self._messages = {device: at for device, at in self._messages.items() if at > now_s}
        self._bytes = {device: at for device, at in self._bytes.items() if at > now_s}


@dataclass(frozen=True)
class Sentence:
    """Kept out until then, for the `times`-th time in a row; `until` None: until a person releases it."""

    until: datetime | None
    times: int


def sentence(times: int, last: datetime | None, now: datetime) -> Sentence:
    """`times` is how often the device was kept out in a row, `last` until when it was the last time. Each break is twice as long as the one before."""
    before = 0 if last is None or now - last > FORGIVEN_AFTER else times
    if before >= MOST_BREAKS:
        return Sentence(None, before + 1)
    return Sentence(now + min(_LONGEST_BREAK, _FIRST_BREAK * 2**before), before + 1)
