"""The thread between what was read and the inbox: whatever has come while one commit was made is the next."""

import logging
import random
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from fleet_contract import limits
from fleet_contract.backoff import Backoff
from fleet_server.errors import brief
from fleet_server.inbox.port import Inbox
from fleet_server.ingest.intake import Group

log = logging.getLogger(__name__)

_GROUP_BYTES = 8 * limits.MIB
_LOOK_S = 0.2


@dataclass
class Waiting:
    """Groups between two threads, each with the connection that it came on."""

    groups: deque[tuple[object, Group]] = field(default_factory=deque)
    bytes: int = 0


class Committer:
    """`wait_s` is asked before each commit (see ingest.pace); `wake` is called when there is something for `committed`."""

    def __init__(
        self,
        inbox: Inbox,
        wait_s: Callable[[], float | None],
        wake: Callable[[], None],
        on_slowed: Callable[[float], None] = lambda _: None,
        backoff: Backoff = Backoff(0.1, 5.0),
    ) -> None:
        self._inbox, self._wait_s, self._wake, self._on_slowed, self._backoff = inbox, wait_s, wake, on_slowed, backoff
        self._waiting = Waiting()
        self._committed: deque[tuple[object, Group]] = deque()
        self._change = threading.Condition()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="inbox", daemon=True)

    @property
    def waiting_bytes(self) -> int:
        """Read, and not committed."""
        return self._waiting.bytes

    def start(self) -> None:
        self._thread.start()

    def close(self, timeout_s: float = 10.0) -> None:
        """Commit what was handed over, unless the inbox is away or too full: then it stays unacknowledged, and comes again."""
        self._closing.set()
        with self._change:
            self._change.notify()
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def put(self, line: object, group: Group) -> None:
        """Never blocks: the caller looks at `waiting_bytes`."""
        with self._change:
            self._waiting.groups.append((line, group))
            self._waiting.bytes += group.bytes
            self._change.notify()

    def committed(self) -> list[tuple[object, Group]]:
        """What was committed since the last call, in order."""
        found = []
        while self._committed:
            found.append(self._committed.popleft())
        return found

    def _run(self) -> None:
        while groups := self._take():
            if not self._hold() or not self._store(groups):
                return
            with self._change:
                self._waiting.bytes -= sum(group.bytes for _, group in groups)
            self._committed.extend(groups)
            self._wake()

    def _take(self) -> list[tuple[object, Group]]:
        """Empty at the end."""
        with self._change:
            while not self._waiting.groups:
                if self._closing.is_set():
                    return []
                self._change.wait()
            taken = [self._waiting.groups.popleft()]
            size = taken[0][1].bytes
            while self._waiting.groups and size + self._waiting.groups[0][1].bytes <= _GROUP_BYTES:
                taken.append(self._waiting.groups.popleft())
                size += taken[-1][1].bytes
            return taken

    def _hold(self) -> bool:
        """Wait as long as the inbox is too full; False when this ends before."""
        while True:
            wait_s = self._wait_s()
            if wait_s == 0:
                return True
            if self._closing.wait(_LOOK_S if wait_s is None else wait_s):
                return False
            self._on_slowed(_LOOK_S if wait_s is None else wait_s)
            if wait_s is not None:
                return True

    def _store(self, groups: list[tuple[object, Group]]) -> bool:
        """Until it is stored; False when this ends before. Nothing in it can be refused by a database that works."""
        arrivals = [arrival for _, group in groups for arrival in group.arrivals]
        for attempt in range(limits.MAX_COUNT):
            try:
                self._inbox.append(arrivals, time.time_ns() // 1_000)
                return True
            except Exception as error:  # noqa: BLE001 - whatever spoils one commit, the messages of all devices wait for the next
                log.error("the inbox took nothing: %s", brief(error))
            if self._closing.wait(self._backoff.wait_s(attempt, random.random)):
                return False
        return False
