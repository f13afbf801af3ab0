"""ports.FileFetcher over MQTT: ask with a Want, collect its Blocks, ask again for those that did not come."""

import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from edge_agent.errors import Missing, Reject, Retry
from edge_agent.ports import Clock, Link
from fleet_contract import limits
from fleet_contract.blocks import to_bitmap
from fleet_contract.messages import Block, Refusal, Want

_INBOX_MESSAGES = 2 * limits.MAX_BLOCKS_PER_REQUEST
_POLL_S = 0.25


@dataclass(frozen=True)
class Patience:
    """Ask again after `silence_s` without a block; give up after `silences` of them in a row. A whole small file has `file_s`."""

    silence_s: float = 5.0
    silences: int = 3
    file_s: float = 60.0


class MqttFiles:
    """One outstanding Want a file, of at most MAX_BLOCKS_PER_REQUEST blocks. Safe for several readers at once."""

    def __init__(self, link: Link, clock: Clock, *, new_id: Callable[[], str], patience: Patience = Patience()) -> None:
        self._link, self._clock, self._new_id, self._patience = link, clock, new_id, patience
        self._inboxes: dict[str, queue.Queue[Block | Refusal]] = {}
        self._lock = threading.Lock()
        self._closed = threading.Event()

    def receive(self, message: Block | Refusal) -> None:
        """From the session's thread. What nobody waits for, or too much of it, is dropped."""
        with self._lock:
            inbox = self._inboxes.get(message.request)
        if inbox is not None:
            try:
                inbox.put_nowait(message)
            except queue.Full:
                return

    def close(self) -> None:
        """Readers that wait raise Retry."""
        self._closed.set()

    def read(self, path: str, max_bytes: int) -> bytes:
        deadline_s = self._clock.monotonic_s() + self._patience.file_s
        head = next(self._collect(path, limits.MAX_BLOCK_BYTES, [0], deadline_s))
        if head.length > max_bytes:
            raise Reject(f"{path} has {head.length} bytes, at most {max_bytes}", code="too-large")
        count = max(1, -(-head.length // limits.MAX_BLOCK_BYTES))
        parts = {0: head.data}
        for block in self._collect(path, limits.MAX_BLOCK_BYTES, range(1, count), deadline_s):
            if block.length != head.length:
                raise Retry(f"{path} changed while it was read", code="changed")
            parts[block.index] = block.data
        data = b"".join(parts[index] for index in range(count))
        if len(data) != head.length:
            raise Retry(f"{path} came with {len(data)} of {head.length} bytes", code="changed")
        return data

    def blocks(self, path: str, block_bytes: int, need: Sequence[int]) -> Iterator[tuple[int, bytes]]:
        for block in self._collect(path, block_bytes, need, None):
            yield block.index, block.data

    def _collect(self, path: str, block_bytes: int, need: Sequence[int], deadline_s: float | None) -> Iterator[Block]:
        for start in range(0, len(need), limits.MAX_BLOCKS_PER_REQUEST):
            lacking = set(need[start : start + limits.MAX_BLOCKS_PER_REQUEST])
            silences = 0
            while lacking:
                before = len(lacking)
                for block in self._ask(path, block_bytes, lacking, deadline_s):
                    lacking.discard(block.index)
                    yield block
                silences = 0 if len(lacking) < before else silences + 1
                if silences >= self._patience.silences:
                    raise Retry(f"the server sends nothing of {path}", code="deadline")

    def _ask(self, path: str, block_bytes: int, need: set[int], deadline_s: float | None) -> Iterator[Block]:
        """One Want; its blocks until all are there or silence falls."""
        waiting = set(need)
        with self._inbox() as (request, inbox):
            self._link.send(Want(request=request, path=path, block_bytes=block_bytes, need=to_bitmap(waiting, max(waiting) + 1)))
            while waiting and (message := self._next(inbox, path, deadline_s)) is not None:
                if isinstance(message, Refusal):
                    raise _refused(path, message)
                if message.index in waiting:
                    waiting.discard(message.index)
                    yield message

    def _next(self, inbox: "queue.Queue[Block | Refusal]", path: str, deadline_s: float | None) -> Block | Refusal | None:
        """None when silence falls. Raises Retry when it is too late, offline or closed."""
        until_s = self._clock.monotonic_s() + self._patience.silence_s
        while True:
            now_s = self._clock.monotonic_s()
            if self._closed.is_set() or not self._link.connected:
                raise Retry(f"{path}: the connection is gone", code="offline")
            if deadline_s is not None and now_s >= deadline_s:
                raise Retry(f"{path} did not come within {self._patience.file_s} s", code="deadline")
            try:
                return inbox.get(timeout=max(0.0, min(_POLL_S, until_s - now_s)))
            except queue.Empty:
                if self._clock.monotonic_s() >= until_s:
                    return None

    @contextmanager
    def _inbox(self) -> "Iterator[tuple[str, queue.Queue[Block | Refusal]]]":
        request, inbox = self._new_id(), queue.Queue(_INBOX_MESSAGES)
        with self._lock:
            self._inboxes[request] = inbox
        try:
            yield request, inbox
        finally:
            with self._lock:
                del self._inboxes[request]


def _refused(path: str, refusal: Refusal) -> Reject:
    kind = Missing if refusal.code == Missing.code else Reject
    return kind(f"{path}: {refusal.reason}", code=refusal.code)
