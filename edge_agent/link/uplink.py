"""Carries the outbox to the server: bounded in flight, sent again after silence, with the device's status beside it."""

import logging
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from edge_agent.errors import Retry
from edge_agent.ports import Clock, Link, Store
from fleet_contract.messages import Ack, Lane, Status

log = logging.getLogger(__name__)

_MAX_WAITING_ACKS = 1_000
_DRAIN_POLL_S = 0.05
_BEHIND_S = 2.0
"""Well within Pace.patience_s: downloads give way before anything is sent again."""


@dataclass(frozen=True)
class Pace:
    """`window` messages may be unacknowledged; without any acknowledgement for `patience_s` all are sent again.
    Records gather for `gather_s`, because messages are scarce and rows are not. While there is nothing to do, nothing is looked at for `idle_s`."""

    window: int = 8
    patience_s: float = 10.0
    gather_s: float = 0.2
    heartbeat_s: float = 5.0
    idle_s: float = 2.0


@dataclass(frozen=True)
class _Flight:
    """A batch that is on its way since `sent_s`."""

    lane: Lane
    first: int
    last: int
    sent_s: float


class Uplink:
    """`turn` does all the work and is called in a loop by `run`; the `on_` methods only leave a note, from any thread."""

    def __init__(self, store: Store, link: Link, clock: Clock, observe: Callable[[], Status], pace: Pace = Pace()) -> None:
        self._store, self._link, self._clock, self._observe, self._pace = store, link, clock, observe, pace
        self._acks: deque[Ack] = deque(maxlen=_MAX_WAITING_ACKS)
        self._reconnected = threading.Event()
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._news = self._resting = False
        self._flying: list[_Flight] = []
        self._progress_s = clock.monotonic_s()
        self._told: Status | None = None
        self._told_s = float("-inf")
        self._thread = threading.Thread(target=self._run, name="uplink", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self, timeout_s: float = 5.0) -> None:
        """End the loop, and say goodbye if there is a connection."""
        self._stop.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)
        if self._link.connected:
            try:
                self._store_acks()
                self._link.send(_offline(self._observe()))
            except Retry as error:
                log.info("no goodbye was sent: %s", error)

    def drain(self, timeout_s: float) -> bool:
        """Wait until nothing of the events lane waits for the server; whether that came true. For what must be heard before the end."""
        deadline_s = self._clock.monotonic_s() + timeout_s
        while self._store.ledger()[Lane.EVENTS].queued:
            if self._clock.monotonic_s() >= deadline_s or self._stop.wait(_DRAIN_POLL_S):
                return False
            self._wake.set()
        return True

    def is_behind(self) -> bool:
        """Whether any records that were sent have waited long for an acknowledgement; from any thread."""
        now_s = self._clock.monotonic_s()
        return any(now_s - flight.sent_s > _BEHIND_S for flight in self._flying)

    def on_connected(self) -> None:
        self._reconnected.set()
        self._wake.set()

    def on_append(self) -> None:
        """The store holds more than before."""
        self._news = True
        if self._resting:
            self._wake.set()

    def on_ack(self, ack: Ack) -> None:
        """Lost acknowledgements cost a repetition, so the oldest give way when too many wait."""
        self._acks.append(ack)
        if len(self._flying) >= self._pace.window:
            self._wake.set()

    def turn(self) -> None:
        """Store what was acknowledged, send what fits. Raises Retry: nothing is lost, the next turn begins anew."""
        self._store_acks()
        if not self._link.connected:
            return
        if self._reconnected.is_set():
            self._reconnected.clear()
            self._send_again("connected")
            self._told = None
        if self._flying and self._clock.monotonic_s() - self._progress_s > self._pace.patience_s:
            self._send_again("no acknowledgement")
        self._send_batches()
        self._send_status()

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self.turn()
            except Retry as error:
                log.info("uplink: %s", error)
                self._send_again(error.code)
            except Exception:  # the records must go on flowing, whatever one turn met
                log.exception("uplink: a turn failed")
                self._send_again("error")
            self._rest()

    def _rest(self) -> None:
        """Gather; then, if that has brought nothing and nothing is awaited, sleep until something comes or the next heartbeat is due."""
        self._wake.wait(self._pace.gather_s)
        self._resting = True  # before the look at the news: whoever appends now sees it, or is seen
        if not (self._news or self._flying):
            due_s = self._told_s + self._pace.heartbeat_s - self._clock.monotonic_s()
            self._wake.wait(min(self._pace.idle_s, due_s) if due_s > 0 else self._pace.idle_s)
        self._resting = self._news = False
        self._wake.clear()

    def _store_acks(self) -> None:
        while self._acks:
            ack = self._acks[0]
            if ack.epoch == self._store.epoch:
                self._store.acknowledge(ack.lane, ack.ranges)
                self._land(ack)
            self._acks.popleft()

    def _land(self, ack: Ack) -> None:
        before = len(self._flying)
        self._flying = [flight for flight in self._flying if not (flight.lane == ack.lane and _covers(ack.ranges, flight))]
        if len(self._flying) < before:
            self._progress_s = self._clock.monotonic_s()

    def _send_again(self, why: str) -> None:
        if self._flying:
            log.info("uplink: %d messages will be sent again (%s)", len(self._flying), why)
        self._store.rewind()
        self._flying, self._news = [], True

    def _send_batches(self) -> None:
        room = self._pace.window - len(self._flying)
        if room <= 0:
            return
        if not self._flying:
            self._progress_s = self._clock.monotonic_s()
        for batch in self._store.batches(room):
            self._link.send(batch)
            self._flying = [*self._flying, _Flight(batch.lane, batch.first, batch.last, self._clock.monotonic_s())]

    def _send_status(self) -> None:
        status = self._observe()
        now_s = self._clock.monotonic_s()
        if self._told is None or _differs(status, self._told) or now_s - self._told_s >= self._pace.heartbeat_s:
            self._link.send(status)
            self._told, self._told_s = status, now_s


def _covers(ranges: list[tuple[int, int]], flight: _Flight) -> bool:
    """Whether one acknowledged range holds them all; the server acknowledges whole batches, or what it merged of them."""
    return any(start <= flight.first and flight.last <= end for start, end in ranges)


def _differs(new: Status, old: Status) -> bool:
    """Whether somebody waits for this; the counters alone can wait for the heartbeat."""
    return any(getattr(new, name) != getattr(old, name) for name in ("online", "epoch", "bundle", "phase", "order_counter", "error"))


def _offline(status: Status) -> Status:
    return msgspec.structs.replace(status, online=False)
