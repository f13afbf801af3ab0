"""Where entries wait to be committed: bounded memory, in order. Whoever stages never waits for the disk."""

import threading
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from edge_agent.outbox.entries import Entry, Ticket
from edge_agent.outbox.handing import Wanted
from fleet_contract import limits

_COMMIT_BYTES = limits.MIB
_REMINDED_S = 1.0
"""What is not urgent goes with another commit, if one comes in that time."""


@dataclass(frozen=True)
class Job:
    """Batches for somebody, in the transaction that comes next."""

    wanted: Wanted
    ticket: Ticket


@dataclass(frozen=True)
class Work:
    """What one commit does. `drops` counts, by lane and reason, what nobody keeps. `is_closing`: nothing new comes; `is_last`: nothing at all."""

    entries: Sequence[Entry]
    drops: Counter[tuple[int, str]]
    jobs: Sequence[Job]
    is_closing: bool
    is_last: bool


class Staging:
    """For any number of threads that stage and one that commits. An entry stays until it is committed, or withdrawn."""

    def __init__(self, max_bytes: int, commit_within_s: float) -> None:
        self._max_bytes, self._within_s = max_bytes, commit_within_s
        self._changed = threading.Condition(threading.Lock())
        self._entries: deque[Entry] = deque()
        self._drops: Counter[tuple[int, str]] = Counter()
        self._jobs: deque[Job] = deque()
        self._bytes = 0
        self._waiting = 0
        self._is_reminded = self._is_closed = False

    def put(self, entry: Entry) -> bool:
        """Takes it, unless there is no room for it; what somebody waits for always has room. One that is larger than all of the room finds it when
        nothing else waits."""
        with self._changed:
            if self._is_closed:
                return False
            is_full = self._entries and self._bytes + entry.size > self._max_bytes
            if is_full and entry.ticket is None:
                return False
            self._entries.append(entry)
            self._bytes += entry.size
            self._waiting += entry.ticket is not None
            if len(self._entries) == 1 or self._is_urgent():
                self._changed.notify()
            return True

    @property
    def held_bytes(self) -> int:
        return self._bytes

    @property
    def held(self) -> int:
        """Entries."""
        return len(self._entries)

    def drop(self, drops: Mapping[tuple[int, str], int]) -> None:
        with self._changed:
            self._drops.update(drops)
            self._changed.notify()

    def ask(self, job: Job) -> bool:
        """Whether it will be done."""
        with self._changed:
            if self._is_closed:
                return False
            self._jobs.append(job)
            self._changed.notify()
            return True

    def remind(self) -> None:
        """Something is to be committed that is not here, and not urgent."""
        with self._changed:
            self._is_reminded = True
            self._changed.notify()

    def take(self) -> Work:
        """What is there, when something is: the oldest has waited long enough, or much came, or somebody waits."""
        with self._changed:
            self._changed.wait_for(lambda: self._is_reminded or self._has_work())
            if not self._has_work():
                self._changed.wait_for(self._has_work, _REMINDED_S)
            if self._within_s:
                self._changed.wait_for(self._is_urgent, self._within_s)
            self._is_reminded = False
            jobs = list(self._jobs)
            self._jobs.clear()
            entries = self._oldest()
            return Work(entries, Counter(self._drops), jobs, self._is_closed, self._is_closed and len(entries) == len(self._entries))

    def commit(self, work: Work) -> None:
        """Its entries, the oldest, and its drops need to be kept no longer."""
        with self._changed:
            self._drops -= work.drops
            for _ in work.entries:
                self._release(self._entries.popleft())

    def withdraw(self) -> list[Ticket]:
        """The entries that somebody waits for: they are told that it failed."""
        with self._changed:
            tickets = [entry.ticket for entry in self._entries if entry.ticket is not None]
            self._bytes -= sum(entry.size for entry in self._entries if entry.ticket is not None)
            self._entries = deque(entry for entry in self._entries if entry.ticket is None)
            self._waiting = 0
            return tickets

    def note(self, name: str) -> str | None:
        """The newest of this name that waits."""
        with self._changed:
            return next((entry.notes[name] for entry in reversed(self._entries) if name in entry.notes), None)

    def pause(self, longest_s: float) -> None:
        """After a failure; ends early when it is closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._is_closed, longest_s)

    def close(self) -> None:
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()

    def _oldest(self) -> list[Entry]:
        """As many as one commit takes."""
        size, found = 0, []
        for entry in self._entries:
            if found and size + entry.size > _COMMIT_BYTES:
                break
            found.append(entry)
            size += entry.size
        return found

    def _has_work(self) -> bool:
        return bool(self._entries or self._drops or self._jobs or self._is_closed)

    def _is_urgent(self) -> bool:
        return bool(self._is_closed or self._jobs or self._waiting or 2 * self._bytes >= self._max_bytes)

    def _release(self, entry: Entry) -> None:
        self._bytes -= entry.size
        self._waiting -= entry.ticket is not None
