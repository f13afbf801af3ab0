"""Inferences as Parquet files, one a day and task: made in memory, written whole and durably."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from fleet_server import storage
from fleet_server.lake.inferences import Inferences

RESULTS = "results"
_US_PER_DAY = 86_400_000_000
MAX_DAYS_OFF = 30
"""Of a time from the day of its receiving: a clock farther off was never set, and would strew a file over every day that it names."""
_PATH = re.compile(rf"{RESULTS}/day=(\d{{4}}-\d\d-\d\d)/task=([^/]+)/(\d+)-(\d+)(?:\.\d+)?\.parquet")

_WORD = pa.dictionary(pa.int32(), pa.string())
_INSTANT = pa.timestamp("us", "UTC")
SCHEMA = pa.schema(
    [
        pa.field("device", _WORD, nullable=False),
        pa.field("epoch", _WORD, nullable=False),
        pa.field("seq", pa.int64(), nullable=False),
        pa.field("at", _INSTANT, nullable=False),
        pa.field("received_at", _INSTANT, nullable=False),
        pa.field("mono_us", pa.int64(), nullable=False),
        pa.field("boot", _WORD, nullable=False),
        pa.field("clock", _WORD, nullable=False),
        pa.field("bundle", _WORD, nullable=False),
        pa.field("input_id", pa.string(), nullable=False),
        pa.field("label", _WORD),
        pa.field("value", pa.float64(), nullable=False),
        pa.field("latency_us", pa.int64(), nullable=False),
        pa.field("abstained", pa.bool_(), nullable=False),
        pa.field("detail", pa.string()),
    ]
)
_STEPS = dict.fromkeys(("seq", "at", "received_at", "mono_us", "latency_us"), "DELTA_BINARY_PACKED")
_LAYOUT: dict[str, Any] = {
    "compression": "zstd",
    "compression_level": 1,
    "row_group_size": 256 * 1024,
    "use_dictionary": [field.name for field in SCHEMA if field.type == _WORD],
    "column_encoding": _STEPS | {"input_id": "DELTA_BYTE_ARRAY", "value": "BYTE_STREAM_SPLIT"},
    "write_statistics": ["device", "seq", "at", "bundle", "label"],
}
"""Four times as fast to write as dictionaries for every column, and two thirds of their size."""


@dataclass(frozen=True)
class Made:
    """A file that lies there, for the catalogue; `path` is below the lake's folder."""

    path: str
    day: str
    task: str
    first: int
    last: int
    rows: int
    bytes: int
    at_min_us: int
    at_max_us: int


def table(rows: Inferences) -> pa.Table:
    """Every row, kept or not, in the order of their arrival."""
    pieces = [each.piece for each in rows.fresh]
    received = np.array([piece.received_at_us for piece in pieces], np.int64)[rows.batch]
    abstained = pa.array(rows.abstained)
    columns = [
        _word([piece.device for piece in pieces], rows.batch),
        _word([piece.batch.epoch for piece in pieces], rows.batch),
        pa.array(rows.seq),
        _instant(rows.at_us),
        _instant(received),
        pa.array(rows.mono_us),
        _word([piece.batch.boot for piece in pieces], rows.batch),
        _word([piece.batch.clock for piece in pieces], rows.batch),
        _dictionary(rows.bundles, rows.bundle),
        _texts(rows),
        _dictionary(rows.labels, rows.label),
        pa.array(rows.value),
        pa.array(rows.latency_us),
        abstained,
        pa.nulls(len(rows), pa.string()) if rows.details is None else pa.array(rows.details, pa.string()),
    ]
    return pa.Table.from_arrays(columns, schema=SCHEMA)


def write(root: Path, rows: Inferences, tasks: Mapping[str, str], span: tuple[int, int], part: int) -> list[Made]:
    """The rows that are kept, in a file a day and task; `span` are the inbox ids that they came by. Raises OSError."""
    if not rows.keep.any():
        return []
    whole = table(rows)
    return [
        save(root, _place(day, task, span, part), whole if chosen is None else whole.take(pa.array(chosen)))
        for day, task, chosen in _parts(rows, tasks)
    ]


def save(root: Path, path: str, content: pa.Table) -> Made:
    """Raises OSError. The same again gives the same file."""
    sink = pa.BufferOutputStream()
    pq.write_table(content, sink, **_LAYOUT)
    data = sink.getvalue()
    target = root / path
    if not target.parent.exists():
        _make_durable(target.parent, root)
    storage.write_atomic(target, memoryview(data))
    at = content["at"].cast(pa.int64())
    low, high = pa.compute.min_max(at).values()
    day, task, first, last = parse(path)
    return Made(path, day, task, first, last, content.num_rows, len(data), low.as_py(), high.as_py())


def read(root: Path, path: str) -> pa.Table:
    """With the texts of SCHEMA as dictionaries again. Raises OSError."""
    return pq.read_table(root / path, partitioning=None, read_dictionary=[field.name for field in SCHEMA if field.type == _WORD]).cast(
        SCHEMA
    )


def parse(path: str) -> tuple[str, str, int, int]:
    """Day, task and inbox ids of a path. Raises ValueError."""
    found = _PATH.fullmatch(path)
    if not found:
        raise ValueError(f"{path} is no file of the lake")
    return found[1], found[2], int(found[3]), int(found[4])


def place(day: str, task: str, first: int, last: int, part: int = 0) -> str:
    return f"{RESULTS}/day={day}/task={task}/{first}-{last}{f'.{part}' if part else ''}.parquet"


def _place(day: int, task: str, span: tuple[int, int], part: int) -> str:
    return place(datetime.fromtimestamp(day * 86_400, UTC).date().isoformat(), task, *span, part)


def _parts(rows: Inferences, tasks: Mapping[str, str]) -> Iterator[tuple[int, str, NDArray | None]]:
    """Day (since 1970), task and the rows that are kept of them, None: every row."""
    names = sorted(set(tasks.values()))
    of_batch = np.array([names.index(tasks[each.piece.device]) for each in rows.fresh])
    received = np.array([each.piece.received_at_us // _US_PER_DAY for each in rows.fresh])[rows.batch]
    day = rows.at_us // _US_PER_DAY
    day = np.where(np.abs(day - received) > MAX_DAYS_OFF, received, day)
    key = day * len(names) + of_batch[rows.batch]
    everything = bool(rows.keep.all())
    keys = np.unique(key[rows.keep])
    for each in keys.tolist():
        chosen = None if everything and len(keys) == 1 else np.flatnonzero(rows.keep & (key == each))
        yield each // len(names), names[each % len(names)], chosen


def _word(of_batch: Sequence[str], batch: NDArray) -> pa.Array:
    known: dict[str, int] = {}
    codes = np.array([known.setdefault(word, len(known)) for word in of_batch])
    return _dictionary(list(known), codes[batch])


def _dictionary(names: Sequence[str | None], codes: NDArray) -> pa.Array:
    """A row whose name is None is null."""
    missing = np.array([name is None for name in names])[codes] if None in names else None
    indices = pa.array(codes.astype(np.int32), mask=missing)
    return pa.DictionaryArray.from_arrays(indices, pa.array([name or "" for name in names], pa.string()))


def _instant(at_us: NDArray[np.int64]) -> pa.Array:
    return pa.array(at_us).view(_INSTANT)


def _texts(rows: Inferences) -> pa.Array:
    offsets = np.concatenate([[0], rows.ends]).astype(np.int32)
    return pa.StringArray.from_buffers(len(rows), pa.py_buffer(offsets), pa.py_buffer(rows.text))


def _make_durable(folder: Path, root: Path) -> None:
    """The folder and what is missing above it, up to `root`, each name synced."""
    if not folder.parent.exists():
        _make_durable(folder.parent, root)
    folder.mkdir(exist_ok=True)
    storage.sync_folder(folder.parent)
