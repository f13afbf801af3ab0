"""Carries the outbox to the server: as much in flight as is acknowledged in time, the newest first, with the device's status beside it."""

import logging
import random
import threading
from collections import deque
from collections.abc import Callable

import msgspec

from edge_agent.errors import Retry
from edge_agent.link import spending, window
from edge_agent.link.flights import Flight, Flights
from edge_agent.link.pace import Pace
from edge_agent.link.window import Timeout
from edge_agent.ports import Clock, Link, Sent, Store
from fleet_contract.messages import Ack, Batch, ClockState, Lane, Status

log = logging.getLogger(__name__)

_MAX_WAITING_ACKS = 1_000
_DRAIN_POLL_S = 0.05
_BEHIND_S = 2.0
"""Well within Pace.patience_s: downloads give way before anything is sent again."""
_ENVELOPE_BYTES = 256
"""Of a message beside its data: topic, headers, TLS."""
_STATUS_BYTES = 768
_JITTER = 0.25
_NEWEST = (Lane.EVENTS,)


class Uplink:
    """`turn` does all the work and is called in a loop by `run`; the `on_` methods only leave a note, from any thread."""

    def __init__(
        self,
        store: Store,
        link: Link,
        clock: Clock,
        observe: Callable[[], Status],
        pace: Pace = Pace(),
        *,
        trust: Callable[[], ClockState] = lambda: "trusted",
        uniform: Callable[[], float] = random.random,
    ) -> None:
        """`trust` says whether the wall clock is right; `uniform` gives numbers in [0, 1)."""
        self._store, self._link, self._clock, self._observe, self._pace = store, link, clock, observe, pace
        self._trust, self._uniform = trust, uniform
        self._acks: deque[tuple[Ack, float]] = deque(maxlen=_MAX_WAITING_ACKS)
        self._reconnected = threading.Event()
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._news = self._resting = False
        self._flights = Flights()
        self._window = window.opened(pace.window)
        self._timeout = Timeout(pace.patience_s, max(pace.patience_s, pace.longest_patience_s))
        self._started_s = clock.monotonic_s()
        self._purse = spending.purse(pace.rate_bytes_per_s, pace.history_share, self._started_s)
        self._has_history, self._is_short = True, False
        self._epoch = store.epoch
        self._told: Status | None = None
        self._tell_s = float("-inf")
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
        since_s = self._flights.waits_since_s()
        return since_s is not None and self._clock.monotonic_s() - since_s > _BEHIND_S

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
        self._acks.append((ack, self._clock.monotonic_s()))
        if not self._window.room(len(self._flights)):
            self._wake.set()

    def turn(self) -> None:
        """Store what was acknowledged, send what may go. Raises Retry: nothing is lost, the next turn begins anew."""
        self._store_acks()
        if not self._link.connected:
            return
        if self._reconnected.is_set() or self._epoch != self._store.epoch:
            self._reconnected.clear()
            self._begin_connection()
        self._note_unheard()
        self._send_missed()
        if self._told is None:
            self._send_status()
        self._send_batches()
        self._send_status()

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self.turn()
            except Retry as error:
                log.info("uplink: %s", error)
            except Exception:  # the records must go on flowing, whatever one turn met
                log.exception("uplink: a turn failed")
            self._rest()

    def _rest(self) -> None:
        """Gather; then, if that has brought nothing and nothing is awaited, sleep until something comes or the next heartbeat is due."""
        self._wake.wait(self._pace.gather_s)
        self._resting = True  # before the look at the news: whoever appends now sees it, or is seen
        if not (self._news or self._flights or self._is_short):
            due_s = self._tell_s - self._clock.monotonic_s()
            self._wake.wait(min(self._pace.idle_s, due_s) if due_s > 0 else self._pace.idle_s)
        self._resting = self._news = False
        self._wake.clear()

    def _begin_connection(self) -> None:
        """What was on its way may be lost with the connection that it was given to, and what the broker can take is learnt anew."""
        self._epoch = self._store.epoch
        self._store.rewind()
        self._flights = Flights()
        self._window = window.opened(self._pace.window)
        self._has_history, self._told = True, None

    def _store_acks(self) -> None:
        while self._acks:
            ack, came_s = self._acks[0]
            if ack.epoch == self._store.epoch:
                self._store.acknowledge(ack.lane, ack.ranges)
                self._land(ack, came_s)
            self._acks.popleft()

    def _land(self, ack: Ack, came_s: float) -> None:
        self._flights, home = self._flights.landed(ack, came_s)
        for flight in home:
            if not flight.is_again:
                self._timeout = self._timeout.measured(max(0.0, came_s - flight.sent_s))
        if home and self._is_short:
            self._window = self._window.grown(len(home))

    def _note_unheard(self) -> None:
        unheard = [flight for flight in self._flights.flying if not flight.is_unheard and flight.handed and flight.handed.unheard()]
        if unheard:
            if not self._flights.asked:
                log.info("uplink: the broker has nobody for %d of %d messages", len(unheard), len(self._flights))
            self._flights = self._flights.unheard(unheard)

    def _send_missed(self) -> None:
        """Again, what was not acknowledged in time, or went to nobody; that alone says nothing of how much the far end can take."""
        missed = self._flights.missed(self._clock.monotonic_s(), self._timeout)
        if not missed:
            return
        if not all(flight.is_unheard for flight in missed):
            log.info(
                "uplink: %d of %d messages are sent again, unacknowledged for %.0f s", len(missed), len(self._flights), self._timeout.base_s
            )
            self._window, self._timeout = self._window.halved(), self._timeout.expired()
        for flight in missed:
            handed = self._hand_over(flight.batch, of_history=not flight.is_fresh)
            self._flights = self._flights.repeated(flight, self._clock.monotonic_s(), self._patience(), handed)

    def _send_batches(self) -> None:
        """`_is_short` says whether anything stayed behind for want of room."""
        lanes = self._open_lanes()
        left = self._send(self._room().fresh, lanes, fresh=True)
        if self._has_history and lanes != _NEWEST:
            self._has_history = self._send(self._room().history, lanes, fresh=False)
            left = left or self._has_history
        self._is_short = left

    def _room(self) -> spending.Room:
        share, now_s = self._pace.history_share, self._clock.monotonic_s()
        return spending.room(self._window, self._flights, self._purse, now_s, history_share=share, has_history=self._has_history)

    def _send(self, most: int, lanes: tuple[Lane, ...], *, fresh: bool) -> bool:
        """Whether there may be more. Raises Retry; what was handed out and did not go is handed out again."""
        left = deque(self._store.batches(most, fresh=fresh, lanes=lanes) if most else ())
        is_more = len(left) == most
        try:
            while left:
                handed = self._hand_over(left[0], of_history=not fresh)
                flight = Flight(left.popleft(), self._clock.monotonic_s(), self._patience(), fresh, handed=handed)
                self._flights = self._flights.sent(flight)
        finally:
            if left:
                self._store.rewind([(batch.lane, batch.first) for batch in left])
                self._has_history = self._news = True
        return is_more

    def _hand_over(self, batch: Batch, *, of_history: bool) -> Sent:
        handed = self._link.send(batch)
        self._purse = self._purse.paid(len(batch.data) + _ENVELOPE_BYTES, self._clock.monotonic_s(), of_history=of_history)
        return handed

    def _patience(self) -> float:
        return 1 + _JITTER * self._uniform()

    def _open_lanes(self) -> tuple[Lane, ...]:
        """In the quiet hours, and while the clock may yet become right, events alone; a clock that is not right knows no quiet hours."""
        if self._trust() == "untrusted":
            return _NEWEST if self._clock.monotonic_s() - self._started_s < self._pace.clock_wait_s else tuple(Lane)
        return _NEWEST if self._pace.quiet.contain(self._clock.now()) else tuple(Lane)

    def _send_status(self) -> None:
        status = self._observe()
        now_s = self._clock.monotonic_s()
        if self._told is None or _differs(status, self._told) or now_s >= self._tell_s:
            self._link.send(status)
            self._purse = self._purse.paid(_STATUS_BYTES, now_s, of_history=False)
            self._told, self._tell_s = status, now_s + self._pace.heartbeat_s * (1 - _JITTER * self._uniform())


def _differs(new: Status, old: Status) -> bool:
    """Whether somebody waits for this; the counters alone can wait for the heartbeat."""
    return any(
        getattr(new, name) != getattr(old, name) for name in ("online", "epoch", "bundle", "phase", "order_counter", "error", "clock")
    )


def _offline(status: Status) -> Status:
    return msgspec.structs.replace(status, online=False)
