"""Shared passes: the blocks of one file that several devices want, each published once for all of them.

Pure: wants, progress and the time go in; packets to send and devices to let go come out. Nothing here costs more than the logarithm of the members.
One Want never costs more than one reading of the file: a block is sent again only to a device that asked for it after it had been sent.
"""

import heapq
from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

from fleet_contract import limits
from fleet_server.mqtt.wants import Grid, Refused

LEFT = "pass-left"
_MAX_JOINS = 4
"""Of one device in one pass: it may start anew or want more, but not keep the pass going for ever."""
_BRAKING = 3
_LOOK_S = 0.1
_AHEAD_CREDITS = limits.MAX_AHEAD_PACKETS // limits.CREDIT_PACKETS


@dataclass(frozen=True)
class PassRules:
    """`gather_s`: how long a pass waits for further devices before its first packet. `patience_s`: how long it waits for a device that says nothing;
    three times that is how long most devices wait in all for few who are slow. `max_bytes_per_s` is of all passes together, None for as fast as
    the broker takes it."""

    gather_s: float = 0.5
    patience_s: float = 3.0
    max_bytes_per_s: float | None = None
    max_passes: int = 16
    max_members: int = 20_000


@dataclass(frozen=True)
class Group:
    """The blocks of a pass's next packet, and its sequence number."""

    pass_id: str
    grid: Grid
    sequence: int
    numbers: tuple[int, ...]
    lap: int


@dataclass(frozen=True)
class Leaver:
    """A device that goes on without the pass; `request` is its Want's."""

    device: str
    request: str
    why: Refused


@dataclass
class _Member:
    """`credit` counts the full CREDIT_PACKETS that it has said to have; `joined` tells two Wants of one device apart;
    for `awaited_s` most others have waited for it."""

    request: str
    credit: int
    joined: int
    awaited_s: float = 0.0


@dataclass
class _Pass:
    """`pending` has a bit for each block to send; sending goes upwards from `position`, and begins a new `lap` at the end."""

    id: str
    grid: Grid
    opens_at: float
    pending: int = 0
    position: int = 0
    lap: int = 0
    sequence: int = 0
    members: dict[str, _Member] = field(default_factory=dict)
    credits: Counter[int] = field(default_factory=Counter)
    last_blocks: list[tuple[int, int, int, str]] = field(default_factory=list)
    """A heap of (lap, block, joined, device): after that block the member has been sent all that it wanted."""
    boundary_at: dict[int, float] = field(default_factory=dict)
    """When the packet was sent after which a member has this credit."""
    joins: Counter[str] = field(default_factory=Counter)
    looked_at: float = 0.0

    def add(self, device: str, request: str, need: int, joined: int) -> None:
        """Raises Refused."""
        known = self.members.get(device)
        if known is not None and known.request == request:
            return
        if self.joins[device] >= _MAX_JOINS:
            raise Refused(LEFT, "this device was too slow for this pass already, or joined it too often")
        self.joins[device] += 1
        self.remove(device)
        self.members[device] = _Member(request, self.sequence // limits.CREDIT_PACKETS, joined)
        self.credits[self.members[device].credit] += 1
        self.pending |= need
        below = need & ((1 << self.position) - 1)
        last, lap = (below, self.lap + 1) if below else (need, self.lap)
        heapq.heappush(self.last_blocks, (lap, last.bit_length() - 1, joined, device))

    def remove(self, device: str) -> _Member | None:
        member = self.members.pop(device, None)
        if member is not None:
            self._uncount(member.credit)
        return member

    def let_go(self, member: str, why: str) -> Leaver:
        """It cannot come back into this pass."""
        self.joins[member] = _MAX_JOINS
        return Leaver(member, self.remove(member).request, Refused(LEFT, why))

    def progress(self, device: str, sequence: int) -> None:
        """A number that was not sent yet says nothing."""
        member = self.members.get(device)
        credit = (sequence + 1) // limits.CREDIT_PACKETS
        if member is not None and sequence < self.sequence and credit > member.credit:
            self._uncount(member.credit)
            member.credit = credit
            self.credits[credit] += 1

    def forgive(self) -> None:
        """Take it that every member has all that was sent."""
        for member in self.members.values():
            member.credit = self.sequence // limits.CREDIT_PACKETS
        self.credits = Counter({self.sequence // limits.CREDIT_PACKETS: len(self.members)})
        self.boundary_at.clear()

    def group(self) -> Group | None:
        """None while the slowest member has too little."""
        if self._is_held():
            return None
        rest, at, lap = self.pending >> self.position, self.position, self.lap
        if not rest:
            rest, at, lap = self.pending, 0, self.lap + 1
        numbers = []
        while rest and len(numbers) < limits.MAX_PACKET_BYTES // self.grid.block_bytes:
            step = (rest & -rest).bit_length()
            rest, at = rest >> step, at + step
            numbers.append(at - 1)
        return Group(self.id, self.grid, self.sequence, tuple(numbers), lap)

    def sent(self, group: Group, now_s: float) -> None:
        for number in group.numbers:
            self.pending &= ~(1 << number)
        self.position, self.lap = group.numbers[-1] + 1, group.lap
        if group.sequence % limits.CREDIT_PACKETS == 0:
            self.boundary_at[group.sequence // limits.CREDIT_PACKETS] = now_s
        self.sequence += 1
        while self.last_blocks and self.last_blocks[0][:2] < (self.lap, self.position):
            _, _, joined, device = heapq.heappop(self.last_blocks)
            if device in self.members and self.members[device].joined == joined:
                self.remove(device)

    def laggards(self, before_s: float) -> list[str]:
        """Who owed a report since before that time."""
        for credit in [old for old in self.boundary_at if old <= min(self.credits, default=self.sequence)]:
            del self.boundary_at[credit]
        owed = [credit - 1 for credit, at in self.boundary_at.items() if at < before_s]
        return [device for device, member in self.members.items() if member.credit <= max(owed)] if owed else []

    def brakes(self, now_s: float, most_s: float) -> list[str]:
        """The few for whom most have waited too long in all: each report came in time, and yet the pass would go at their pace."""
        waited_s = now_s - self.looked_at
        if waited_s < _LOOK_S:
            return []
        self.looked_at = now_s
        slowest = min(self.credits, default=0)
        if not self._is_held() or 2 * self.credits[slowest] > len(self.members):
            return []
        slow = {device: member for device, member in self.members.items() if member.credit == slowest}
        for member in slow.values():
            member.awaited_s += waited_s
        return [device for device, member in slow.items() if member.awaited_s > most_s]

    def _is_held(self) -> bool:
        return self.sequence // limits.CREDIT_PACKETS >= min(self.credits, default=self.sequence) + _AHEAD_CREDITS

    def _uncount(self, credit: int) -> None:
        self.credits[credit] -= 1
        if not self.credits[credit]:
            del self.credits[credit]


class Passes:
    """All passes, taking turns. Times are of one monotonic clock, in seconds."""

    def __init__(self, rules: PassRules, new_id: Callable[[], str]) -> None:
        self._rules, self._new_id = rules, new_id
        self._by_id: OrderedDict[str, _Pass] = OrderedDict()
        self._free_at = 0.0
        self._joined = 0

    @property
    def running(self) -> int:
        return len(self._by_id)

    @property
    def members(self) -> int:
        return sum(len(one.members) for one in self._by_id.values())

    def join(self, device: str, request: str, grid: Grid, need: int, now_s: float) -> None:
        """Send the blocks of the bits `need` (at least one, all below `grid.count`) to this device too. Raises Refused."""
        one = next((each for each in self._by_id.values() if each.grid == grid), None)
        if self.members >= self._rules.max_members or (one is None and self.running >= self._rules.max_passes):
            raise Refused(LEFT, "no room in a shared pass now: ask for the blocks alone")
        if one is None:
            one = _Pass(self._new_id(), grid, now_s + self._rules.gather_s, looked_at=now_s)
            self._by_id[one.id] = one
        self._joined += 1
        one.add(device, request, need, self._joined)

    def progress(self, device: str, pass_id: str, sequence: int) -> None:
        if pass_id in self._by_id:
            self._by_id[pass_id].progress(device, sequence)

    def next(self, now_s: float) -> Group | None:
        """What to send now, if anything; it stays the next until it is `sent`."""
        if now_s < self._free_at:
            return None
        ready = (one.group() for one in self._by_id.values() if now_s >= one.opens_at)
        return next((group for group in ready if group is not None), None)

    def sent(self, group: Group, size_bytes: int, now_s: float) -> None:
        one = self._by_id[group.pass_id]
        one.sent(group, now_s)
        self._by_id.move_to_end(group.pass_id)
        if self._rules.max_bytes_per_s:
            self._free_at = max(self._free_at, now_s) + size_bytes / self._rules.max_bytes_per_s
        self._close_if_done(one)

    def tick(self, now_s: float) -> list[Leaver]:
        """Let go of every member that has not reported in time, or only just in time again and again."""
        left, patience_s = [], self._rules.patience_s
        for one in [*self._by_id.values()]:
            for device in one.laggards(now_s - patience_s):
                left.append(one.let_go(device, f"no progress for {patience_s:g} s"))
            for device in one.brakes(now_s, _BRAKING * patience_s):
                left.append(one.let_go(device, f"most others have waited {_BRAKING * patience_s:g} s for this device"))
            self._close_if_done(one)
        return left

    def abandon(self, pass_id: str, why: Refused) -> list[Leaver]:
        """End a pass whose file cannot be read."""
        members = self._by_id.pop(pass_id).members
        return [Leaver(device, member.request, why) for device, member in members.items()]

    def resume(self) -> None:
        """The connection is back. Reports were lost with the old one, so nobody is held to them."""
        for one in self._by_id.values():
            one.forgive()

    def wait_s(self, now_s: float, longest_s: float) -> float:
        """How long nothing can be due by the time alone."""
        times = [one.opens_at for one in self._by_id.values() if one.opens_at > now_s]
        times += [self._free_at] if self._by_id and self._free_at > now_s else []
        return min([longest_s, *(at - now_s for at in times)])

    def _close_if_done(self, one: _Pass) -> None:
        """Without members, what is still pending is wanted by nobody who takes it."""
        if not one.members:
            self._by_id.pop(one.id, None)
