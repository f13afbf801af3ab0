"""Records packed into what one message can carry, and such units joined and thinned. Pure."""

from collections.abc import Iterator, Sequence

from msgspec.structs import replace

from fleet_contract import batches, column_edits, limits
from fleet_contract.batches import Packed, Rows
from fleet_contract.columns import ResultColumns, from_results
from fleet_contract.messages import Batch, Result

MAX_DATA_BYTES = 60 * limits.KIB
"""Of one unit, compressed: what is around it in a message fits beside it."""
_MAX_LENGTH_BYTES = limits.MAX_BATCH_DATA_BYTES * 3 // 4


class Packer:
    """Learns how well the device's results compress, so that few are packed twice."""

    def __init__(self) -> None:
        self._ratio = 0.5

    def results(self, results: Sequence[Result], mono_us: Sequence[int], sizes: Sequence[int]) -> Iterator[Packed]:
        """In order. `sizes` are about what each takes before compression."""
        start = 0
        while start < len(results):
            stop = _end(sizes, start, min(_MAX_LENGTH_BYTES, int(0.9 * MAX_DATA_BYTES / self._ratio)))
            yield from self._pack(results[start:stop], mono_us[start:stop])
            start = stop

    def rows(self, records: Sequence[bytes], mono_us: Sequence[int]) -> Iterator[Packed]:
        """Of encoded records, each within limits.MAX_RECORD_BYTES."""
        sizes, start = [len(record) + 16 for record in records], 0
        while start < len(records):
            stop = _end(sizes, start, MAX_DATA_BYTES)
            yield batches.seal(Rows(list(records[start:stop]), list(mono_us[start:stop])))
            start = stop

    def _pack(self, results: Sequence[Result], mono_us: Sequence[int]) -> Iterator[Packed]:
        packed = batches.seal(from_results(results, mono_us))
        self._ratio = min(1.0, max(0.05, len(packed.data) / packed.length))
        if len(packed.data) <= MAX_DATA_BYTES or len(results) == 1:
            yield packed
            return
        half = len(results) // 2
        yield from self._pack(results[:half], mono_us[:half])
        yield from self._pack(results[half:], mono_us[half:])


def joined(parts: Sequence[Batch]) -> Batch:
    """One of them all, whose numbers follow one another. Raises MalformedMessage."""
    contents = [batches.unpack(part) for part in parts]
    columns = [content for content in contents if isinstance(content, ResultColumns)]
    rows = [content for content in contents if isinstance(content, Rows)]
    if columns:
        return _resealed(parts[0], batches.seal(column_edits.joined(columns)))
    whole = Rows([wire for part in rows for wire in part.records], [at for part in rows for at in part.mono_us])
    return _resealed(parts[0], batches.seal(whole))


def thinned(batch: Batch) -> Batch | None:
    """Every second record: those whose numbers the doubled stride divides, whatever the batch begins with, so that neighbours still follow one another.
    None where no record is left. Raises MalformedMessage."""
    stride = 2 * batch.stride
    first = -(-batch.first // stride) * stride
    if first > batch.last:
        return None
    content, skip = batches.unpack(batch), (first - batch.first) // batch.stride
    thin = (
        column_edits.picked(content, skip, 2)
        if isinstance(content, ResultColumns)
        else Rows(content.records[skip::2], content.mono_us[skip::2])
    )
    return replace(_resealed(batch, batches.seal(thin)), first=first, stride=stride)


def _resealed(batch: Batch, packed: Packed) -> Batch:
    return replace(batch, count=packed.count, codec=packed.codec, length=packed.length, data=packed.data)


def _end(sizes: Sequence[int], start: int, max_bytes: int) -> int:
    """Where a unit that begins at `start` ends: behind one record at least."""
    stop, size = start, 0
    most = min(len(sizes), start + limits.MAX_BATCH_RECORDS)
    while stop < most and (stop == start or size + sizes[stop] <= max_bytes):
        size += sizes[stop]
        stop += 1
    return stop
