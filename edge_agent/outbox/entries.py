"""What was given to the outbox and is not committed yet."""

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

import msgspec

from edge_agent import dating
from edge_agent.errors import Retry
from edge_agent.outbox.lanes import LANES
from edge_agent.ports import Reading
from fleet_contract import limits
from fleet_contract.errors import TooLarge
from fleet_contract.messages import LANE_OF, Follow, Record, Result, encode_record

TOO_LARGE = "too-large"
MALFORMED = "malformed"
_RESULT_BYTES = 112
"""Of a result beside its texts."""
_SMALL_BYTES = 4 * limits.KIB
"""What is estimated at less need not be measured."""
_ENTRY_BYTES = 256


@dataclass(frozen=True, eq=False)
class Entry:
    """Of one call. `rows` are encoded records and their monotonic times, by lane; `refused` what is too large; `size` is about what all of it takes
    in memory. `ticket` is there where somebody waits."""

    reading: Reading
    results: Sequence[Result]
    results_us: Sequence[int]
    sizes: Sequence[int]
    rows: Mapping[int, tuple[list[bytes], list[int]]]
    dropped: Mapping[tuple[int, str], int]
    notes: Mapping[str, str]
    follow: Follow | None = None
    ticket: "Ticket | None" = None
    record_bytes: int = field(init=False)

    def __post_init__(self) -> None:
        size = sum(self.sizes) + sum(len(row) for rows, _ in self.rows.values() for row in rows)
        object.__setattr__(self, "record_bytes", size)

    @property
    def size(self) -> int:
        return self.record_bytes + _ENTRY_BYTES


class Ticket:
    """Waits for a commit, and for what it gives."""

    def __init__(self) -> None:
        self._done = threading.Event()
        self._error: Retry | None = None
        self.found: list = []

    def settle(self, error: Retry | None = None) -> None:
        self._error = error
        self._done.set()

    def wait(self) -> None:
        """Raises Retry when it could not be committed."""
        self._done.wait()
        if self._error is not None:
            raise Retry(str(self._error), code=self._error.code)


def enter(
    records: Sequence[Record], reading: Reading, notes: Mapping[str, str], *, follow: Follow | None = None, ticket: Ticket | None = None
) -> Entry:
    """What is too large, or cannot be encoded, is told in `dropped`. Raises KeyError for what is no record."""
    results: list[Result] = []
    sizes: list[int] = []
    rows: dict[int, tuple[list[bytes], list[int]]] = {}
    dropped: dict[tuple[int, str], int] = {}
    for record in records:
        try:
            if isinstance(record, Result):
                sizes.append(_size(record))
                results.append(record)
            else:
                kept, times = rows.setdefault(LANES.index(LANE_OF[type(record)]), ([], []))
                kept.append(encode_record(record))
                times += dating.mono_us([record], reading)
        except (ValueError, OverflowError) as error:
            why = LANES.index(LANE_OF[type(record)]), TOO_LARGE if isinstance(error, TooLarge) else MALFORMED
            dropped[why] = dropped.get(why, 0) + 1
    rows = {number: row for number, row in rows.items() if row[0]}
    return Entry(reading, results, dating.mono_us(results, reading), sizes, rows, dropped, notes, follow, ticket)


@dataclass(frozen=True)
class Traced:
    """A result that somebody follows, until its batch is sent."""

    follow: Follow
    recorded_at: datetime
    committed_at: datetime
    latency_us: int


def _size(result: Result) -> int:
    """About what it takes. Raises TooLarge."""
    size = _RESULT_BYTES + len(result.input_id)
    if result.detail is msgspec.UNSET and size < _SMALL_BYTES:
        return size
    return len(encode_record(result))
