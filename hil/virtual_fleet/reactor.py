"""All devices of one process on one thread: epoll for their sockets, a heap for what is due."""

import bisect
import heapq
import select
from collections import deque
from collections.abc import Callable, Sequence

from hil.virtual_fleet.connection import Broken
from hil.virtual_fleet.device import Now
from hil.virtual_fleet.member import Member
from hil.virtual_fleet.script import Script
from hil.virtual_fleet.tally import PhaseTally, Second

_MAX_OPENING = 64
"""Handshakes at once: a process that begins thousands ends none of them in time."""
_MAX_EVENTS = 512
_GATHERING_S = 0.25
_NEVER_S = float("inf")


class Reactor:
    """`run` connects everybody, plays the scenario once it is said to begin, and goes on until every device is settled, or for `settle_s` more.
    `on_second` hears how things stand; before the beginning, as second 0, several times a second."""

    def __init__(
        self,
        members: Sequence[Member],
        script: Script,
        *,
        duration_s: float,
        settle_s: float,
        clock: Callable[[], float],
        wall_us: Callable[[], int],
        on_second: Callable[[Second], None],
    ) -> None:
        self._members, self._script = members, script
        self._begin_s, self._duration_s, self._settle_s = _NEVER_S, duration_s, settle_s
        self._clock, self._wall_us, self._on_second = clock, wall_us, on_second
        self._epoll = select.epoll()
        self._by_fd: dict[int, tuple[int, Member]] = {}
        self._watched: dict[int, int] = {}
        self._heap: list[tuple[float, int]] = []
        self._opening = 0
        self._waiting: deque[int] = deque()
        """Members who may begin to connect once others are done."""
        self._changes = [*script.changes(), duration_s]
        self._next_second, self._next_tell_s = 0, clock()
        self._phase_ends = [phase.end_s for phase in script.phases()]
        self.tallies = [PhaseTally() for _ in self._phase_ends]
        """In the order of the script's phases."""
        self.last_landed_s: float | None = None
        """Seconds from the start to the last acknowledgement."""
        for number, member in enumerate(members):
            self._schedule(number, member, clock())

    def run(self, begin_s: Callable[[], float | None], stopped: Callable[[], bool]) -> None:
        """`begin_s` says when the scenario begins, as soon as that is known."""
        try:
            while not (stopped() or self._is_over()):
                if self._begin_s == _NEVER_S and (found := begin_s()) is not None:
                    self._begin(found)
                self._change()
                self._wait()
                self._do_due()
                self._admit()
                self._tell()
        finally:
            self.close()

    def _begin(self, begin_s: float) -> None:
        self._begin_s, self._next_second, self._next_tell_s = begin_s, 1, begin_s + 1
        for number, member in enumerate(self._members):
            member.device.begin(begin_s)
            self._schedule(number, member, self._clock())

    def _is_over(self) -> bool:
        since_s = self._clock() - self._begin_s - self._duration_s
        return since_s >= self._settle_s or (since_s > 0 and all(each.device.settled for each in self._members))

    def close(self) -> None:
        for member in self._members:
            member.leave()
        self._epoll.close()

    def _wait(self) -> None:
        change_s = self._begin_s + self._changes[0] if self._changes else _NEVER_S
        due_s = min(self._heap[0][0] if self._heap else _NEVER_S, self._next_tell_s, change_s)
        for fd, _ in self._epoll.poll(max(0.0, due_s - self._clock()), _MAX_EVENTS):
            number, member = self._by_fd[fd]
            self._attempt(number, member, member.advance)

    def _do_due(self) -> None:
        now_s = self._clock()
        while self._heap and self._heap[0][0] <= now_s:
            due_s, number = heapq.heappop(self._heap)
            member = self._members[number]
            if due_s == member.wake_s:
                member.wake_s = _NEVER_S
                self._attempt(number, member, lambda now, tally, number=number, member=member: self._turn(number, member, now, tally))

    def _turn(self, number: int, member: Member, now: Now, tally: PhaseTally) -> None:
        if member.wants_to_connect(now.monotonic_s):
            if self._opening < _MAX_OPENING:
                member.connect(now)
            else:
                member.postpone(_NEVER_S)
                self._waiting.append(number)
        member.turn(now, tally)

    def _admit(self) -> None:
        """Those who waited, while there is room."""
        while self._waiting and self._opening < _MAX_OPENING:
            number = self._waiting.popleft()
            member = self._members[number]
            member.postpone(self._clock())
            self._attempt(number, member, lambda now, tally, number=number, member=member: self._turn(number, member, now, tally))

    def _attempt(self, number: int, member: Member, act: Callable[[Now, PhaseTally], None]) -> None:
        """Something on a connection that may break by it; afterwards the member is watched as it wants to be."""
        now_s = self._clock()
        tally = self._tally(now_s)
        was_opening, landed = member.opening, tally.landed
        fd = member.connection.fd if member.connection else None
        try:
            act(Now(now_s, self._wall_us() + round(member.conditions.clock_offset_s * 1e6)), tally)
        except Broken as error:
            member.drop(now_s, tally, str(error))
        if tally.landed > landed:
            self.last_landed_s = now_s - self._begin_s
        self._opening += member.opening - was_opening
        self._watch(number, member, fd)
        self._schedule(number, member, now_s)

    def _watch(self, number: int, member: Member, before: int | None) -> None:
        if member.connection is None:
            if before is not None:  # epoll has let go of a socket that is closed
                self._by_fd.pop(before, None)
                self._watched.pop(before, None)
            return
        fd, wants = member.connection.fd, member.connection.wants
        watched = self._watched.get(fd)
        if watched == wants:
            return
        if watched is None:
            self._by_fd[fd] = (number, member)
            self._epoll.register(fd, wants)
        else:
            self._epoll.modify(fd, wants)
        self._watched[fd] = wants

    def _schedule(self, number: int, member: Member, now_s: float) -> None:
        due_s = min(member.due_s, member.paced_s(now_s))
        if due_s < member.wake_s:
            member.wake_s = max(due_s, now_s)
            heapq.heappush(self._heap, (member.wake_s, number))

    def _change(self) -> None:
        """The next moment of the script, once it has come."""
        if not self._changes or self._clock() - self._begin_s < self._changes[0]:
            return
        at_s = self._changes.pop(0)
        for number, member in enumerate(self._members):
            if at_s >= self._duration_s:
                member.device.producing = False
            conditions = self._script.conditions(member.device.id, at_s)
            self._attempt(number, member, lambda now, tally, m=member, c=conditions: m.under(c, now.monotonic_s, tally))

    def _tally(self, now_s: float) -> PhaseTally:
        """Connecting belongs to the first phase."""
        return self.tallies[bisect.bisect_right(self._phase_ends, now_s - self._begin_s)]

    def _tell(self) -> None:
        if self._clock() < self._next_tell_s:
            return
        books = [book for member in self._members for book in member.device.books.values()]
        second = Second(
            at_s=self._next_second,
            online=sum(member.online for member in self._members),
            produced=sum(book.produced for book in books),
            acknowledged=sum(book.acknowledged for book in books),
            queued=sum(book.queued for book in books),
            dropped=sum(book.dropped for book in books),
            messages=sum(tally.messages for tally in self.tallies),
            again=sum(tally.again for tally in self.tallies),
        )
        self._schedule_telling()
        self._on_second(second)

    def _schedule_telling(self) -> None:
        if self._begin_s == _NEVER_S:
            self._next_tell_s = self._clock() + _GATHERING_S
        else:
            self._next_second = max(1, int(self._clock() - self._begin_s) + 1)
            self._next_tell_s = self._begin_s + self._next_second
