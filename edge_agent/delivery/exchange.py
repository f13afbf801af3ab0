"""Requests to the server's file service and what comes back, over the link: bounded, and nobody is waited for who has gone."""

import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from edge_agent.errors import Missing, Reject, Retry
from edge_agent.ports import Clock, Link
from fleet_contract import limits
from fleet_contract.blocks import to_bitmap
from fleet_contract.messages import FromDevice, Packet, Refusal, Url, Want

_MAILBOX_MESSAGES = 2 * max(limits.MAX_AHEAD_PACKETS, limits.MAX_BLOCKS_PER_REQUEST)

Answer = Packet | Url | Refusal


@dataclass(frozen=True)
class Mailbox:
    """What came for one request, and on one shared topic if it asked for that."""

    request: str
    letters: "queue.Queue[Answer]"


class Exchange:
    """Safe for several requests at once. `monotonic_s` is the clock that patience is measured by; `poll_s` the moment that `next` waits."""

    def __init__(self, link: Link, clock: Clock, *, new_id: Callable[[], str], poll_s: float = 0.25) -> None:
        self._link, self._new_id, self._poll_s = link, new_id, poll_s
        self.monotonic_s = clock.monotonic_s
        self._mailboxes: dict[str, Mailbox] = {}
        self._lock = threading.Lock()
        self._closing = threading.Event()

    def receive(self, message: Answer) -> None:
        """From the session's thread. What nobody waits for, or too much of it, is dropped."""
        self._deliver(message.request, message)

    def receive_shared(self, topic: str, packet: Packet) -> None:
        """From the session's thread: what a shared pass brings."""
        self._deliver(topic, packet)

    def close(self) -> None:
        """Whoever waits raises Retry."""
        self._closing.set()

    def send(self, message: FromDevice) -> None:
        """Raises Retry when offline, Reject when it is too large for the wire."""
        self._link.send(message)

    @contextmanager
    def open(self, topic: str | None = None) -> Iterator[Mailbox]:
        """A mailbox with a request id of its own, which also hears one shared topic."""
        mailbox = Mailbox(self._new_id(), queue.Queue(_MAILBOX_MESSAGES))
        keys = [mailbox.request] if topic is None else [mailbox.request, topic]
        with self._lock:
            self._mailboxes.update(dict.fromkeys(keys, mailbox))
        try:
            if topic is not None:
                self._link.subscribe(topic)
            yield mailbox
        finally:
            if topic is not None:
                self._link.unsubscribe(topic)
            with self._lock:
                for key in keys:
                    self._mailboxes.pop(key, None)

    def next(self, mailbox: Mailbox) -> Answer | None:
        """The next letter; None when none came for a moment. Raises Retry when the connection is gone or the agent ends."""
        if self._closing.is_set() or not self._link.connected:
            raise Retry("the connection is gone", code="offline")
        try:
            return mailbox.letters.get(timeout=self._poll_s)
        except queue.Empty:
            return None

    def _deliver(self, key: str, message: Answer) -> None:
        with self._lock:
            mailbox = self._mailboxes.get(key)
        if mailbox is not None:
            try:
                mailbox.letters.put_nowait(message)
            except queue.Full:
                return


def want(request: str, path: str, block_bytes: int, numbers: set[int], *, shared: bool = False) -> Want:
    bitmap = to_bitmap(numbers, max(numbers) + 1)
    return Want(request, path, block_bytes, bitmap, True) if shared else Want(request, path, block_bytes, bitmap)


def refused(path: str, refusal: Refusal) -> Reject:
    kind = Missing if refusal.code == Missing.code else Reject
    return kind(f"{path}: {refusal.reason[:200]}", code=refusal.code)
