"""What a virtual device does and when, without a socket or a clock of its own: it records, sends within its window, and repeats after silence."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np

from fleet_contract import topics
from fleet_contract.instants import moment
from fleet_contract.messages import Ack, Lane, Packet, Refusal, Status, decode_to_device, encode
from hil.virtual_fleet.book import LaneBook, Unit
from hil.virtual_fleet.duty import Duty, Note
from hil.virtual_fleet.library import Library
from hil.virtual_fleet.recording import NO_BUNDLE, Recorder
from hil.virtual_fleet.scenario import Link, Load
from hil.virtual_fleet.script import Conditions

_LANES = (Lane.EVENTS, Lane.SKETCHES, Lane.TELEMETRY)
"""In order of priority."""
_SKETCH_ROWS = 256
_FIRST_WINDOW = 4
_LONGEST_PATIENCE_S = 120.0
_AGENT_VERSION = "virtual"
_NEVER_S = float("inf")


class Now(msgspec.Struct, frozen=True):
    """`monotonic_s` rules what is done; the wall clock, with the device's own error in it, is only written down."""

    monotonic_s: float
    wall_us: int


@dataclass(frozen=True)
class Habits:
    load: Load
    link: Link
    uniform: random.Random


class Outgoing(msgspec.Struct, frozen=True):
    """`sends` says how often a unit of records was sent with this; 0 for everything else."""

    topic: str
    payload: bytes
    retain: bool = False
    sends: int = 0


class VirtualDevice:
    """`turn` does what is due; then `outgoing` yields what may be sent now. Nothing is recorded before `begin`, and nothing new once `producing` is
    False."""

    def __init__(self, device_id: str, recorder: Recorder, duty: Duty, library: Library, habits: Habits) -> None:
        self.id, self.duty = device_id, duty
        self._up = {kind: topics.up(device_id, kind) for kind in topics.Up}
        self._down = {topics.down(device_id, kind): kind for kind in topics.Down}
        self._recorder, self._library = recorder, library
        self._load, self._link, self._uniform = habits.load, habits.link, habits.uniform
        self._draw = np.random.default_rng(habits.uniform.getrandbits(32)) if habits.load.sketch_every_s else None
        self.books = {lane: LaneBook(habits.link.max_waiting) for lane in _LANES}
        self.producing = True
        self._conditions = Conditions()
        self._window = float(min(_FIRST_WINDOW, habits.link.window))
        self._silences = 0
        self._progress_s = 0.0
        self._told_empty = self._has_rhythm = False
        self._record_s = self._sketch_s = self._event_s = self._status_s = _NEVER_S

    def begin(self, begin_s: float) -> None:
        """Record from then on, every device at its own moment: else all of them would speak at once."""
        load, draw = self._load, self._uniform.random
        self._record_s = begin_s + draw() / load.rate_per_s
        self._sketch_s = begin_s + (draw() * load.sketch_every_s or _NEVER_S)
        self._event_s = begin_s + (draw() * load.event_every_s or _NEVER_S)

    @property
    def epoch(self) -> str:
        return self._recorder.epoch

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
        due_s = min(self._status_s, self.duty.due_s)
        if self.producing:
            due_s = min(due_s, self._record_s, self._sketch_s, self._event_s)
        if flying := self._flying():
            overtaken_s = min(book.overtaken_s() for book in flying)
            due_s = min(due_s, self._progress_s + self._patience_s, overtaken_s + self._late_s)
        return due_s

    def under(self, conditions: Conditions) -> None:
        self._conditions = conditions

    def turn(self, now: Now, connected: bool) -> None:
        """Record what is due; see whether the server has been silent for too long."""
        if self.producing:
            self._record(now)
        if not connected:
            self._rewind()
            self._status_s, self._progress_s = _NEVER_S, now.monotonic_s
            if now.monotonic_s >= self.duty.due_s:
                self.duty.ask(now.monotonic_s)
            return
        for book in self._flying():
            if now.monotonic_s >= book.overtaken_s() + self._late_s:
                book.rewind_overtaken(now.monotonic_s - self._late_s)
        if now.monotonic_s >= self._progress_s + self._patience_s and self._rewind():
            self._silences += 1
            self._window = max(1.0, self._window / 2)
            self._progress_s = now.monotonic_s
        if now.monotonic_s >= self.duty.due_s:
            self.duty.ask(now.monotonic_s)

    def speaks(self, now: Now) -> bool:
        """Whether `outgoing` may have anything."""
        return self.duty.asks or self._tells(now) or any(book.waits for book in self.books.values())

    def outgoing(self, now: Now, room: int) -> Iterator[Outgoing]:
        """At most `room` messages, and no more records than the window allows."""
        if room > 0 and (want := self.duty.wants()):
            yield Outgoing(self._up[topics.Up.WANT], encode(want))
        if self._tells(now) and room > 0:
            room -= 1
            yield self._report(now)
        flying = sum(book.flying for book in self.books.values())
        if not flying:
            self._progress_s = now.monotonic_s
        room = min(room, int(self._window) - flying)
        for unit in self._units(now, room):
            yield Outgoing(self._up[topics.Up.RECORDS], unit.wire, sends=unit.sends)

    def connected(self, now: Now) -> None:
        """Whatever was on its way on an earlier connection may be lost."""
        self._rewind()
        self._window = float(min(_FIRST_WINDOW, self._link.window))
        self._silences, self._progress_s, self._status_s = 0, now.monotonic_s, now.monotonic_s
        self._has_rhythm = False
        self.duty.ask(now.monotonic_s)

    def will(self, now: Now) -> bytes:
        return encode(Status(at=moment(now.wall_us), online=False, epoch=self._recorder.epoch))

    def receive(self, topic: str, payload: bytes, now: Now) -> list[Unit]:
        """A message from the server; the units that it acknowledged. Raises ContractError for one that is against the contract."""
        kind = self._down.get(topic) or topics.parse_down(topic)[1]
        if kind is topics.Down.ORDER:
            before = self.duty.counter
            true_us = now.wall_us - round(self._conditions.clock_offset_s * 1e6)
            self._heed(self.duty.take_order(payload, true_us, now.monotonic_s), before, now)
            return []
        message = decode_to_device(payload)
        if isinstance(message, Ack):
            return self._land(message, now)
        if isinstance(message, Packet | Refusal):
            self._heed(self.duty.take_answer(message, now.monotonic_s), self.duty.counter, now)
        return []

    def _heed(self, notes: Sequence[Note], counter_before: int, now: Now) -> None:
        """Record what an order led to; the server is told at once."""
        for kind, detail in notes:
            self.note(kind, detail, now)
        if notes or self.duty.counter != counter_before:
            self._status_s = now.monotonic_s

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

    def _flying(self) -> list[LaneBook]:
        """Lanes of which something is on its way."""
        return [book for book in self.books.values() if book.flying]

    def _rewind(self) -> int:
        return sum(book.rewind() for book in self.books.values())

    @property
    def _late_s(self) -> float:
        """For what was overtaken: it is more likely lost than slow."""
        return self._link.patience_s / 4

    @property
    def _patience_s(self) -> float:
        return min(_LONGEST_PATIENCE_S, self._link.patience_s * 2**self._silences)

    def _record(self, now: Now) -> None:
        count = self._load.records_per_message
        while self._record_s <= now.monotonic_s:
            interval_s = 1 / (self._load.rate_per_s * self._conditions.rate)
            timing = {"at_us": now.wall_us, "mono_us": _us(now), "spacing_us": int(interval_s * 1e6 / count)}
            first = self.books[Lane.TELEMETRY].produced
            bundle = self.duty.bundle or NO_BUNDLE
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
        stream = self._library.stream(self.duty.bundle)
        if stream is None or self._draw is None or self.duty.bundle is None:
            return
        number = self.books[Lane.SKETCHES].produced
        sketch = stream.window(_SKETCH_ROWS, self._conditions.drift, self._draw)
        about = {"bundle": self.duty.bundle, "first_input": number * _SKETCH_ROWS, "length_s": self._load.sketch_every_s}
        self._add(Lane.SKETCHES, 1, self._recorder.window(number, sketch, at_us=now.wall_us, mono_us=_us(now), **about), now)

    def _add(self, lane: Lane, count: int, wire: bytes, now: Now) -> None:
        book = self.books[lane]
        book.add(Unit(book.produced, count, wire, now.monotonic_s))
        self._told_empty = False

    def _beat(self) -> float:
        """The first interval of a connection is any part of a whole one: those who connected together do not go on together."""
        drawn, self._has_rhythm = (0.9 if self._has_rhythm else 0.1), True
        return drawn + (1.1 - drawn) * self._uniform.random()

    def _tells(self, now: Now) -> bool:
        return now.monotonic_s >= self._status_s or (not self.producing and not self._told_empty and self.queued == 0)

    def _report(self, now: Now) -> Outgoing:
        self._status_s = now.monotonic_s + self._load.status_every_s * self._beat()
        self._told_empty = not self.producing and self.queued == 0
        inputs = self.books[Lane.TELEMETRY].produced
        status = Status(
            at=moment(now.wall_us),
            online=True,
            epoch=self._recorder.epoch,
            agent_version=_AGENT_VERSION,
            profile=self.duty.profile,
            bundle=self.duty.bundle,
            phase="fetching" if self.duty.fetching else "idle",
            order_counter=self.duty.counter,
            inputs=inputs,
            ledger={lane: book.report() for lane, book in self.books.items()},
            instance=self._recorder.boot,
        )
        return Outgoing(self._up[topics.Up.STATUS], encode(status), retain=True)


def _us(now: Now) -> int:
    return int(now.monotonic_s * 1e6)
