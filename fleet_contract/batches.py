"""The inside of a batch: its records packed and compressed; telemetry as columns, the other lanes record by record, so that a bad one spoils
only itself. The one place that makes and opens it."""

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from fleet_contract import columns, compression, limits
from fleet_contract.columns import ResultColumns
from fleet_contract.compression import Codec
from fleet_contract.errors import MalformedMessage
from fleet_contract.messages import Batch, Lane, Record, Result, encode_record


class Rows(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Each element of `records` is one encode_record; `mono_us` are their times on the device's monotonic clock."""

    records: list[bytes]
    mono_us: list[int]

    def __len__(self) -> int:
        return len(self.records)


@dataclass(frozen=True)
class Packed:
    """What Batch says of its data."""

    count: int
    codec: Codec
    length: int
    data: bytes


def pack(lane: Lane, records: Sequence[Record], mono_us: Sequence[int]) -> Packed:
    """Raises TooLarge for a record above limits.MAX_RECORD_BYTES (not in the telemetry lane, whose columns have no such bound)."""
    if lane is Lane.TELEMETRY:
        return seal(columns.from_results([record for record in records if isinstance(record, Result)], mono_us))
    return seal(Rows([encode_record(record) for record in records], list(mono_us)))


def make(epoch: str, lane: Lane, first: int, records: Sequence[Record], *, mono_us: Sequence[int] | None = None, boot: str = "") -> Batch:
    """A whole batch of these records; without `mono_us` they were all made when the monotonic clock began. Raises TooLarge."""
    packed = pack(lane, records, [0] * len(records) if mono_us is None else mono_us)
    return Batch(epoch, lane, first, packed.count, packed.codec, packed.length, packed.data, boot)


def seal(content: ResultColumns | Rows) -> Packed:
    whole = _encoder.encode(content)
    codec, data = compression.compress(whole)
    return Packed(len(content), codec, len(whole), data)


def unpack(batch: Batch) -> ResultColumns | Rows:
    """Columns for the telemetry lane, else rows; as many as the batch says, of the lengths that they must have. Raises MalformedMessage."""
    content = decode(batch)
    found = columns.check(content) if isinstance(content, ResultColumns) else _check(content)
    if found != batch.count:
        raise MalformedMessage(f"a batch of {found} records that says {batch.count}", field="count", limit=batch.count)
    return content


def decode(batch: Batch, whole: memoryview | None = None) -> ResultColumns | Rows:
    """`unpack` without its checks, for who checks the columns of many batches at once; `whole` is the data of the batch where that is decompressed
    already. Raises MalformedMessage."""
    if batch.length > limits.MAX_BATCH_DATA_BYTES:
        raise MalformedMessage(f"a batch of {batch.length} bytes", field="length", limit=limits.MAX_BATCH_DATA_BYTES)
    try:
        found = compression.decompress(batch.codec, batch.data, batch.length) if whole is None else whole
        return (_columns if batch.lane is Lane.TELEMETRY else _rows).decode(found)
    except (ValueError, RecursionError) as error:
        raise MalformedMessage(f"a batch that cannot be read: {error}", field="data") from error


def _check(rows: Rows) -> int:
    if len(rows.mono_us) != len(rows.records):
        raise MalformedMessage(f"{len(rows.mono_us)} times for {len(rows.records)} records", field="mono_us")
    return len(rows.records)


_encoder = msgspec.msgpack.Encoder()
_rows = msgspec.msgpack.Decoder(Rows)
_columns = msgspec.msgpack.Decoder(ResultColumns)
