"""The durable outbox: records wait here, through power cuts and weeks without a network, until the server says that it has stored them."""

import sqlite3
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from edge_agent.config import OUTBOX_MAX_BYTES
from edge_agent.errors import Retry
from edge_agent.link import ledger, tables
from edge_agent.link.ledger import LANES, LaneState
from fleet_contract import batches, limits
from fleet_contract.errors import TooLarge
from fleet_contract.messages import LANE_OF, Batch, Follow, Lane, LaneLedger, Record, decode_record, encode_record

_RECORD_OVERHEAD_BYTES = 32
"""What a row costs in the database beside its body; on the wire it is less."""
_BATCH_BYTES = limits.MAX_MESSAGE_BYTES - limits.KIB
_EVICT_ROWS = 64

TOO_LARGE = "too-large"
QUOTA = "quota"


class Outbox:
    """ports.Store on SQLite (WAL, synchronous=FULL). Thread-safe.

    Sequence numbers begin at 0 in each lane and epoch. When more than `max_bytes` wait, the lowest lane's oldest records give way and are counted
    as dropped; but never one that the server may hold already, so that no record is both stored and dropped (the quota is exceeded
    by at most what was in flight).
    """

    def __init__(self, path: Path, *, new_epoch: Callable[[], str], max_bytes: int = OUTBOX_MAX_BYTES) -> None:
        """Opens or makes the database; a damaged one is set aside and `was_damaged` is True. Raises Retry when the disk does not play along."""
        self._lock = threading.RLock()
        self._max_bytes = max_bytes
        try:
            self._db, self.was_damaged = tables.open_database(path, new_epoch)
        except (sqlite3.Error, OSError) as error:
            raise Retry(f"outbox {path}: {error}", code="disk") from error
        self.epoch = tables.read_note(self._db, "epoch") or ""
        self._lanes = tables.read_lanes(self._db)
        self._next = [0] * len(LANES)
        self._on_append: Callable[[], None] = lambda: None

    def listen(self, on_append: Callable[[], None]) -> None:
        """`on_append` is called after each commit of an append, by whoever appended."""
        self._on_append = on_append

    def append(self, records: Sequence[Record], *, cursor: str | None = None, marks: dict[str, str] | None = None) -> None:
        """Commit all or nothing. A record that is too large is dropped and counted, not raised. Raises Retry (disk)."""
        with self._transaction() as lanes:
            for record in records:
                self._insert(lanes, record)
            self._evict(lanes)
            notes = {f"mark:{name}": value for name, value in (marks or {}).items()}
            for name, value in (notes if cursor is None else {**notes, "cursor": cursor}).items():
                tables.write_note(self._db, name, value)
        self._on_append()

    def cursor(self) -> str | None:
        return self._note("cursor")

    def mark(self, name: str) -> str | None:
        return self._note(f"mark:{name}")

    def batches(self, max_batches: int, *, fresh: bool = False, lanes: Collection[Lane] = LANES) -> list[Batch]:
        """Each within MAX_BATCH_RECORDS and MAX_MESSAGE_BYTES, of contiguous sequence numbers. Raises Retry (disk)."""
        found: list[Batch] = []
        with self._lock:
            ahead = list(self._next)
            for lane in (number for number, lane in enumerate(LANES) if lane in lanes):
                while len(found) < max_batches and (batch := self._next_batch(lane, ahead[lane])):
                    ahead[lane] = batch.last + 1
                    found.append(batch)
            self._reserve(ahead)
            self._next = ahead
        return found

    def rewind(self, units: Sequence[tuple[Lane, int]] | None = None) -> None:
        with self._lock:
            self._next = [0] * len(LANES)

    def follow(self, follow: Follow) -> None:
        """Nothing is followed yet."""

    def acknowledge(self, lane: Lane, ranges: Sequence[tuple[int, int]]) -> None:
        """Forget these records. Ranges of records that were never sent are ignored. Raises Retry (disk)."""
        number = LANES.index(lane)
        with self._transaction() as lanes:
            for first, last in ledger.clip(ranges, min(lanes[number].sent_below, lanes[number].produced)):
                count, size = self._delete(tables.key(number, first), tables.key(number, last))
                lanes[number] = lanes[number].forgotten(count, size)

    def ledger(self) -> dict[Lane, LaneLedger]:
        with self._lock:
            return {lane: state.report() for lane, state in zip(LANES, self._lanes, strict=True)}

    def close(self) -> None:
        with self._lock:
            self._db.close()

    @contextmanager
    def _transaction(self) -> Iterator[list[LaneState]]:
        """Yields the lanes to change; they become true when the commit has."""
        with self._lock:
            lanes = list(self._lanes)
            try:
                self._db.execute("BEGIN IMMEDIATE")
                yield lanes
                for number, state in enumerate(lanes):
                    if state is not self._lanes[number]:
                        tables.write_lane(self._db, number, state)
                self._db.execute("COMMIT")
            except BaseException as error:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                if isinstance(error, sqlite3.Error):
                    raise Retry(f"outbox: {error}", code="disk") from error
                raise
            self._lanes = lanes

    def _insert(self, lanes: list[LaneState], record: Record) -> None:
        number = LANES.index(LANE_OF[type(record)])
        try:
            body = encode_record(record)
        except TooLarge:
            lanes[number] = lanes[number].refused(TOO_LARGE)
            return
        self._db.execute("INSERT INTO record VALUES (?, ?)", (tables.key(number, lanes[number].produced), body))
        lanes[number] = lanes[number].added(1, len(body) + _RECORD_OVERHEAD_BYTES)

    def _evict(self, lanes: list[LaneState]) -> None:
        for number in reversed(range(len(LANES))):
            while (excess := sum(state.queued_bytes for state in lanes) - self._max_bytes) > 0:
                last = self._evictable(number, lanes[number], excess)
                if last is None:
                    break
                count, size = self._delete(tables.key(number, lanes[number].sent_below), last)
                lanes[number] = lanes[number].evicted(count, size, QUOTA)

    def _evictable(self, number: int, state: LaneState, excess: int) -> int | None:
        """The id of the last of the oldest unsent records of this lane that must go for `excess` bytes."""
        span = (tables.key(number, state.sent_below), tables.key(number + 1, 0), _EVICT_ROWS)
        last = None
        for record_id, size in self._db.execute("SELECT id, length(body) FROM record WHERE id >= ? AND id < ? ORDER BY id LIMIT ?", span):
            if excess <= 0:
                break
            last, excess = record_id, excess - size - _RECORD_OVERHEAD_BYTES
        return last

    def _delete(self, first: int, last: int) -> tuple[int, int]:
        """Count and bytes of the records deleted in this inclusive range of ids."""
        count, size = self._db.execute(
            "SELECT count(*), total(length(body)) FROM record WHERE id BETWEEN ? AND ?", (first, last)
        ).fetchone()
        self._db.execute("DELETE FROM record WHERE id BETWEEN ? AND ?", (first, last))
        return count, int(size) + count * _RECORD_OVERHEAD_BYTES

    def _next_batch(self, lane: int, after: int) -> Batch | None:
        span = (tables.key(lane, after), tables.key(lane + 1, 0), limits.MAX_BATCH_RECORDS)
        bodies: list[bytes] = []
        first = size = 0
        try:
            for record_id, body in self._db.execute("SELECT id, body FROM record WHERE id >= ? AND id < ? ORDER BY id LIMIT ?", span):
                sequence = tables.sequence_of(record_id)
                size += len(body) + _RECORD_OVERHEAD_BYTES
                if bodies and (sequence != first + len(bodies) or size > _BATCH_BYTES):
                    break
                first = first if bodies else sequence
                bodies.append(body)
        except sqlite3.Error as error:
            raise Retry(f"outbox: {error}", code="disk") from error
        return batches.make(self.epoch, LANES[lane], first, [decode_record(body) for body in bodies]) if bodies else None

    def _reserve(self, ahead: Sequence[int]) -> None:
        """Make durable, before they are sent, that the server may have all records below these."""
        if all(end <= state.sent_below for end, state in zip(ahead, self._lanes, strict=True)):
            return
        with self._transaction() as lanes:
            for number, end in enumerate(ahead):
                if end > lanes[number].sent_below:
                    lanes[number] = lanes[number].reserved(ledger.look_ahead(LANES[number], end))

    def _note(self, name: str) -> str | None:
        with self._lock:
            return tables.read_note(self._db, name)
