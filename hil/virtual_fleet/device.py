"""What a virtual device does and when, without a socket or a clock of its own: it records, sends within its window, and repeats after silence."""

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from fleet_contract import topics
from fleet_contract.messages import Ack, Lane, Packet, Refusal, Status, Want, decode_to_device, encode
from fleet_contract.order import Order, check, open_by
from hil.virtual_fleet.book import LaneBook, Unit
from hil.virtual_fleet.fetching import Fetch, WrongBundle
from hil.virtual_fleet.library import Library
from hil.virtual_fleet.recording import NO_BUNDLE, Recorder, moment
from hil.virtual_fleet.scenario import Link, Load
from hil.virtual_fleet.script import Conditions

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

_LANES = (Lane.EVENTS, Lane.SKETCHES, Lane.TELEMETRY)
"""In order of priority."""
_SKETCH_ROWS = 256
_LONGEST_PATIENCE_S = 120.0
_AGENT_VERSION = "virtual"
_NEVER_S = float("inf")


@dataclass(frozen=True)
class Now:
    """`monotonic_s` rules what is done; the wall clock, with the device's own error in it, is only written down."""

    monotonic_s: float
    wall_us: int


@dataclass(frozen=True)
class Outgoing:
    topic: str
    payload: bytes
    retain: bool = False
    again: bool = False


class VirtualDevice:
    """`turn` does what is due; then `outgoing` yields what may be sent now. `producing` False: nothing new is recorded."""

    def __init__(
        self,
        device_id: str,
        profile: str,
        recorder: Recorder,
        *,
        load: Load,
        link: Link,
        keys: "Mapping[str, Ed25519PublicKey]",
        library: Library,
        fetches: bool,
        begin_s: float,
        uniform: random.Random,
    ) -> None:
        self.id, self._profile, self._recorder = device_id, profile, recorder
        self._load, self._link, self._keys, self._library, self._fetches = load, link, keys, library, fetches
        self._uniform = uniform
        self._draw = np.random.default_rng(uniform.getrandbits(32)) if load.sketch_every_s else None
        self.books = {lane: LaneBook(link.max_waiting) for lane in _LANES}
        self.producing = True
        self.order: Order | None = None
        self.bundle: str | None = None
        self._counter = 0
        self._fetch: Fetch | None = None
        self._asked_s = _NEVER_S
        self._conditions = Conditions()
        self._begin_s = begin_s
        self._window = float(min(4, link.window))
        self._silences = 0
        self._progress_s = begin_s
        self._told_empty = False
        self._want: Want | None = None
        self._first_s(begin_s)

    def _first_s(self, begin_s: float) -> None:
        """Every device at its own moment: else all of them would speak at once."""
        load, draw = self._load, self._uniform.random
        self._record_s = begin_s + draw() / load.rate_per_s
        self._sketch_s = begin_s + (draw() * load.sketch_every_s or _NEVER_S)
        self._event_s = begin_s + (draw() * load.event_every_s or _NEVER_S)
        self._status_s = begin_s
        self._recorded_s = self._record_s

    @property
    def epoch(self) -> str:
        return self._recorder.epoch

    @property
    def order_counter(self) -> int:
        """Of the last order that it has accepted."""
        return self._counter

    @property
    def queued(self) -> int:
        return sum(book.queued for book in self.books.values())

    @property
    def settled(self) -> bool:
        """Nothing waits, and the server was told so."""
        return not self.producing and self._told_empty and self.queued == 0

    @property
    def due_s(self) -> float:
        """When `turn` has something to do next."""
        made = min(self._record_s, self._sketch_s, self._event_s) if self.producing else _NEVER_S
        flying = any(book.flying for book in self.books.values())
        return min(made, self._status_s, self._progress_s + self._patience_s if flying else _NEVER_S, self._asked_s + self._link.patience_s)

    def under(self, conditions: Conditions) -> None:
        self._conditions = conditions

    def turn(self, now: Now, connected: bool) -> None:
        """Record what is due; see whether the server has been silent for too long."""
        if self.producing:
            self._record(now)
        if not connected:
            self._status_s = max(self._status_s, now.monotonic_s + 1.0)
            self._progress_s = now.monotonic_s
            self._asked_s = now.monotonic_s if self._fetch else _NEVER_S
            return
        if now.monotonic_s >= self._progress_s + self._patience_s and self._rewind():
            self._silences += 1
            self._window = max(1.0, self._window / 2)
            self._progress_s = now.monotonic_s
        if now.monotonic_s >= self._asked_s + self._link.patience_s and self._fetch:
            self._ask(self._fetch, now)

    def outgoing(self, now: Now, room: int) -> Iterator[Outgoing]:
        """At most `room` messages, and no more records than the window allows."""
        if self._want is not None and room > 0:
            want, self._want = self._want, None
            yield Outgoing(topics.up(self.id, topics.Up.WANT), encode(want))
        if self._tells(now) and room > 0:
            room -= 1
            yield self._report(now)
        flying = sum(book.flying for book in self.books.values())
        if not flying:
            self._progress_s = now.monotonic_s
        room = min(room, int(self._window) - flying)
        for unit in self._units(now, room):
            yield Outgoing(topics.up(self.id, topics.Up.RECORDS), unit.wire, again=unit.sends > 1)

    def connected(self, now: Now) -> None:
        """Whatever was on its way on an earlier connection may be lost."""
        self._rewind()
        self._window = float(min(4, self._link.window))
        self._silences, self._progress_s, self._status_s = 0, now.monotonic_s, now.monotonic_s
        if self._fetch:
            self._ask(self._fetch, now)

    def will(self, now: Now) -> bytes:
        return encode(Status(at=moment(now.wall_us), online=False, epoch=self._recorder.epoch))

    def receive(self, topic: str, payload: bytes, now: Now) -> list[Unit]:
        """A message from the server; the units that it acknowledged. Raises ContractError for one that is against the contract."""
        kind = topics.parse_down(topic)[1]
        if kind is topics.Down.ORDER:
            self._take_order(payload, now)
            return []
        message = decode_to_device(payload)
        if isinstance(message, Ack):
            return self._land(message, now)
        if isinstance(message, Packet | Refusal) and self._fetch:
            self._take_blocks(self._fetch, message, now)
        return []

    def _land(self, ack: Ack, now: Now) -> list[Unit]:
        book = self.books.get(ack.lane)
        if book is None or ack.epoch != self._recorder.epoch:
            return []
        landed = book.acknowledge(ack.ranges)
        if landed:
            self._progress_s, self._silences = now.monotonic_s, 0
            self._window = min(float(self._link.window), self._window + len(landed))
        return landed

    def _units(self, now: Now, room: int) -> Iterator[Unit]:
        for lane in _LANES:
            book = self.books[lane]
            while room > 0 and (unit := book.take(now.monotonic_s)):
                room -= 1
                yield unit

    def _rewind(self) -> int:
        return sum(book.rewind() for book in self.books.values())

    @property
    def _patience_s(self) -> float:
        return min(_LONGEST_PATIENCE_S, self._link.patience_s * 2**self._silences)

    def _record(self, now: Now) -> None:
        count = self._load.records_per_message
        while self._record_s <= now.monotonic_s:
            interval_s = 1 / (self._load.rate_per_s * self._conditions.rate)
            timing = {"at_us": now.wall_us, "mono_us": _us(now), "spacing_us": int(interval_s * 1e6 / count)}
            first = self.books[Lane.TELEMETRY].produced
            bundle = self.bundle or NO_BUNDLE
            wire = self._recorder.results(first, count, bundle=bundle, drift=self._conditions.drift, **timing)
            self._add(Lane.TELEMETRY, count, wire, now)
            self._record_s += interval_s
        if self._event_s <= now.monotonic_s:
            self.note("virtual.beat", {"inputs": self.books[Lane.TELEMETRY].produced}, now)
            self._event_s += self._load.event_every_s
        if self._sketch_s <= now.monotonic_s:
            self._sketch(now)
            self._sketch_s += self._load.sketch_every_s

    def note(self, kind: str, detail: dict, now: Now) -> None:
        """Record an event."""
        number = self.books[Lane.EVENTS].produced
        self._add(Lane.EVENTS, 1, self._recorder.event(number, kind, detail, at_us=now.wall_us, mono_us=_us(now)), now)

    def _sketch(self, now: Now) -> None:
        """Of the bundle that it runs; none while nobody in this process has its reference."""
        stream = self._library.stream(self.bundle)
        if stream is None or self._draw is None or self.bundle is None:
            return
        number = self.books[Lane.SKETCHES].produced
        sketch = stream.window(_SKETCH_ROWS, self._conditions.drift, self._draw)
        about = {"bundle": self.bundle, "first_input": number * _SKETCH_ROWS, "length_s": self._load.sketch_every_s}
        self._add(Lane.SKETCHES, 1, self._recorder.window(number, sketch, at_us=now.wall_us, mono_us=_us(now), **about), now)

    def _add(self, lane: Lane, count: int, wire: bytes, now: Now) -> None:
        book = self.books[lane]
        book.add(Unit(book.produced, count, wire, now.monotonic_s))
        self._told_empty = False

    def _tells(self, now: Now) -> bool:
        return now.monotonic_s >= self._status_s or (not self.producing and not self._told_empty and self.queued == 0)

    def _report(self, now: Now) -> Outgoing:
        self._status_s = now.monotonic_s + self._load.status_every_s * (0.9 + 0.2 * self._uniform.random())
        self._told_empty = not self.producing and self.queued == 0
        inputs = self.books[Lane.TELEMETRY].produced
        status = Status(
            at=moment(now.wall_us),
            online=True,
            epoch=self._recorder.epoch,
            agent_version=_AGENT_VERSION,
            profile=self._profile,
            bundle=self.bundle,
            phase="fetching" if self._fetch else "idle",
            order_counter=self._counter,
            inputs=inputs,
            ledger={lane: book.report() for lane, book in self.books.items()},
            instance=self._recorder.boot,
        )
        return Outgoing(topics.up(self.id, topics.Up.STATUS), encode(status), retain=True)

    def _take_order(self, envelope: bytes, now: Now) -> None:
        """Raises OrderForgery and its kin."""
        if not envelope:
            return
        order = open_by(envelope, self._keys)[1]
        true = moment(now.wall_us - round(self._conditions.clock_offset_s * 1e6))
        check(order, device=self.id, profile=self._profile, now=true, newest_counter=self._counter)
        if order.counter == self._counter:
            return
        self._counter, self.order, self._status_s = order.counter, order, now.monotonic_s
        if order.sha256 == self.bundle:
            return
        if self._fetches:
            self._fetch = Fetch(order, keep=self._library.lacks(order.sha256))
            self._ask(self._fetch, now)
        else:
            self._install(order, now)

    def _ask(self, fetch: Fetch, now: Now) -> None:
        self._want, self._asked_s = fetch.want(), now.monotonic_s

    def _take_blocks(self, fetch: Fetch, answer: Packet | Refusal, now: Now) -> None:
        try:
            more = fetch.take(answer)
        except (WrongBundle, ConnectionRefusedError) as error:
            self._fetch, self._asked_s = None, _NEVER_S
            self.note("update.rejected", {"sha256": fetch.order.sha256, "code": type(error).__name__, "message": str(error)[:300]}, now)
            return
        if fetch.done:
            self._library.keep(fetch)
            self._fetch, self._asked_s = None, _NEVER_S
            self._install(fetch.order, now)
        elif more:
            self._ask(fetch, now)

    def _install(self, order: Order, now: Now) -> None:
        """At once: nothing is run here."""
        self.bundle, self._status_s = order.sha256, now.monotonic_s
        self.note("update.active", {"sha256": order.sha256, "fetched": self._fetches}, now)


def _us(now: Now) -> int:
    return int(now.monotonic_s * 1e6)
