"""What is counted while a virtual fleet runs, by phase and by second; adds up over processes."""

from collections import Counter
from collections.abc import Iterable

import msgspec

from hil.virtual_fleet.spread import Spread, merge


class PhaseTally(msgspec.Struct):
    """`messages` of records were handed to the connection, `again` of these not for the first time; `landed` were acknowledged by the server, with
    `acknowledged` records. `latency` is from first sending to acknowledgement, `age` from recording to it; both belong to the phase of the
    acknowledgement. `ignored` messages from the server could not be used. `failed` attempts to connect, by their reason."""

    messages: int = 0
    again: int = 0
    landed: int = 0
    acknowledged: int = 0
    bytes_out: int = 0
    connected: int = 0
    broken: int = 0
    lost: int = 0
    ignored: int = 0
    failed: dict[str, int] = msgspec.field(default_factory=dict)
    latency: Spread = msgspec.field(default_factory=Spread)
    age: Spread = msgspec.field(default_factory=Spread)


class Second(msgspec.Struct):
    """The state of things `at_s` seconds after the start, 0 for any moment before it; counts since then, of records but for `messages` and `again`."""

    at_s: int
    online: int
    produced: int
    acknowledged: int
    queued: int
    dropped: int
    messages: int
    again: int


class LaneCounts(msgspec.Struct, frozen=True, array_like=True):
    """One lane of one device, as the device itself has it."""

    produced: int
    acknowledged: int
    queued: int
    dropped: int


class DeviceCounts(msgspec.Struct, frozen=True, array_like=True):
    """`lanes` by lane; `bundle` and `counter` of the last order that it has taken."""

    device: str
    epoch: str
    lanes: dict[str, LaneCounts]
    bundle: str | None
    counter: int


_COUNTS = ("messages", "again", "landed", "acknowledged", "bytes_out", "connected", "broken", "lost", "ignored")


def total(tallies: Iterable[PhaseTally]) -> PhaseTally:
    given = list(tallies)
    sums = {name: sum(getattr(each, name) for each in given) for name in _COUNTS}
    failed = sum((Counter(each.failed) for each in given), Counter())
    return PhaseTally(**sums, failed=dict(failed), latency=merge(each.latency for each in given), age=merge(each.age for each in given))


def together(seconds: Iterable[Second]) -> list[Second]:
    """Of several processes, in the order of time."""
    found: dict[int, Second] = {}
    for each in seconds:
        other = found.get(each.at_s)
        if other is None:
            found[each.at_s] = msgspec.structs.replace(each)
            continue
        for name in ("online", "produced", "acknowledged", "queued", "dropped", "messages", "again"):
            setattr(other, name, getattr(other, name) + getattr(each, name))
    return [found[at_s] for at_s in sorted(found)]
