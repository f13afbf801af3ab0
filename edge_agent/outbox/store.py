"""The durable outbox: records wait here, through power cuts and weeks without a network, until the server says that it has stored them."""

import threading
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from msgspec.structs import replace

from edge_agent.errors import Retry
from edge_agent.outbox import entries
from edge_agent.outbox.entries import Entry, Ticket, Traced
from edge_agent.outbox.handing import Wanted
from edge_agent.outbox.lanes import LANES
from edge_agent.outbox.settings import OutboxSettings
from edge_agent.outbox.shelf import Shelf
from edge_agent.outbox.staging import Job, Staging
from edge_agent.outbox.writer import Writer
from edge_agent.ports import Reading
from fleet_contract.messages import LANE_OF, Batch, DiskUse, Follow, Lane, LaneLedger, Record, Trace

CURSOR = "cursor"
_MARK = "mark:"
_FOLLOWS = 16
"""Records that are followed at a time; more are not."""


class Outbox:
    """ports.Store on SQLite (WAL, synchronous=FULL). Thread-safe; one thread of its own commits what all others give it, in order.

    Sequence numbers begin at 0 in each lane and epoch, and are given at the commit. When more waits than may, what was never sent gives way (see
    quota) and is counted as dropped; never what the server may hold already, so that no record is both stored and dropped. What is damaged
    is counted as dropped, and an event outbox.damaged says so; where numbers might be given twice, a new epoch begins: outbox.reset.
    """

    def __init__(
        self,
        path: Path,
        *,
        new_epoch: Callable[[], str],
        read: Callable[[], Reading],
        settings: OutboxSettings = OutboxSettings(),
    ) -> None:
        """Opens or makes the file. Raises Retry when the disk does not play along."""
        self._read = read
        self._follows: list[Follow] = []
        self._traced: dict[int, Traced] = {}
        self._lock = threading.Lock()
        self._on_append: Callable[[], None] = lambda: None
        self._shelf = Shelf(path, new_epoch=new_epoch, read=read, settings=settings)
        self._staging = Staging(settings.staged_bytes, settings.commit_within_s)
        self._writer = Writer(self._shelf, self._staging, self._committed)
        self._staging.remind()
        self._writer.start()

    @property
    def epoch(self) -> str:
        return self._shelf.account.epoch

    def listen(self, on_append: Callable[[], None]) -> None:
        """`on_append` is called after each commit of records."""
        self._on_append = on_append

    def append(self, records: Sequence[Record], *, cursor: str | None = None, marks: dict[str, str] | None = None) -> None:
        """Commit all or nothing, and wait for it. A record that is too large is dropped and counted, not raised. Raises Retry (disk)."""
        ticket = Ticket()
        if not self._staging.put(self._entry(records, cursor, marks, ticket)):
            raise Retry("the outbox is closed", code="disk")
        ticket.wait()

    def submit(
        self, records: Sequence[Record], *, cursor: str | None = None, marks: dict[str, str] | None = None, follow: Follow | None = None
    ) -> bool:
        """On a full disk False too, rather than that something gives way for what can be read again."""
        if cursor is not None and self._shelf.is_short(self._staging.held_bytes):
            self._staging.remind()
            return False
        return self._staging.put(self._entry(records, cursor, marks, None, follow))

    def drop(self, records: Sequence[Record], reason: str) -> None:
        self._staging.drop(Counter((LANES.index(LANE_OF[type(record)]), reason) for record in records))

    def cursor(self) -> str | None:
        return self._note(CURSOR)

    def mark(self, name: str) -> str | None:
        return self._note(_MARK + name)

    def batches(self, max_batches: int, *, fresh: bool = False, lanes: Collection[Lane] = tuple(Lane)) -> list[Batch]:
        """Each within MAX_BATCH_RECORDS and MAX_MESSAGE_BYTES; the same whenever it is handed out again. Raises Retry (disk)."""
        if max_batches < 1 or self._shelf.is_all_out(lanes):
            return []
        ticket = Ticket()
        if not self._staging.ask(Job(Wanted(max_batches, fresh, lanes), ticket)):
            raise Retry("the outbox is closed", code="disk")
        ticket.wait()
        return [self._with_trace(batch) for batch in ticket.found]

    def rewind(self, units: Sequence[tuple[Lane, int]] | None = None) -> None:
        self._shelf.rewind(units)

    def acknowledge(self, lane: Lane, ranges: Sequence[tuple[int, int]]) -> None:
        """Forget the units that lie within; of ones that were never sent nothing is believed. True at once, and durable with the next commit: until
        then a power cut costs a repetition. Raises Retry (disk)."""
        if self._shelf.acknowledge(lane, ranges):
            self._staging.remind()

    def ledger(self) -> dict[Lane, LaneLedger]:
        """Of what is committed. Never waits for the disk."""
        return self._shelf.ledger

    def disk(self) -> DiskUse:
        return self._shelf.disk()

    def follow(self, follow: Follow) -> None:
        """The batch of the next result carries a Trace."""
        with self._lock:
            if len(self._follows) < _FOLLOWS:
                self._follows.append(follow)

    def close(self) -> None:
        """What was submitted is committed first, if the disk takes it now."""
        self._staging.close()
        self._writer.join()
        self._shelf.close()

    def _entry(
        self,
        records: Sequence[Record],
        cursor: str | None,
        marks: dict[str, str] | None,
        ticket: Ticket | None,
        follow: Follow | None = None,
    ) -> Entry:
        notes = {_MARK + name: value for name, value in (marks or {}).items()} | ({} if cursor is None else {CURSOR: cursor})
        if follow is None and self._follows and any(LANE_OF[type(record)] is Lane.TELEMETRY for record in records):
            with self._lock:
                follow = self._follows.pop(0) if self._follows else None
        return entries.enter(records, self._read(), notes, follow=follow, ticket=ticket)

    def _committed(self, traced: dict[int, Traced], *, has_records: bool) -> None:
        if traced:
            at = self._read().at
            kept = {number: Traced(one.follow, one.recorded_at, at, one.latency_us) for number, one in traced.items()}
            with self._lock:
                self._traced = dict(list({**self._traced, **kept}.items())[-_FOLLOWS:])
        if has_records:
            self._on_append()

    def _note(self, name: str) -> str | None:
        """What waits to be committed counts, too."""
        staged = self._staging.note(name)
        return self._shelf.account.notes.get(name) if staged is None else staged

    def _with_trace(self, batch: Batch) -> Batch:
        if batch.lane is not Lane.TELEMETRY or not self._traced:
            return batch
        with self._lock:
            number = next((number for number in self._traced if number in batch.sequences), None)
            one = None if number is None else self._traced[number]
        if number is None or one is None:
            return batch
        at = self._read().at
        trace = Trace(one.follow.id, one.follow.parent, number, one.recorded_at, one.committed_at, at, one.latency_us)
        return replace(batch, trace=trace)
