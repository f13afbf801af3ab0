"""When records were made: by the monotonic clock always, by the wall clock as far as it could be trusted. Pure."""

from collections.abc import Sequence
from datetime import timedelta

import msgspec

from edge_agent.ports import Reading
from fleet_contract import batches, columns
from fleet_contract.batches import Rows
from fleet_contract.columns import ResultColumns
from fleet_contract.instants import microseconds
from fleet_contract.messages import Batch, Record, SketchWindow, decode_record, encode_record

_US = timedelta(microseconds=1)
_NEAR_S = 60
"""What is dated further from now was dated by its source (a row with a time of its own), not by this machine's clock."""
_SAME_US = 1_000_000
"""The two clocks are never looked at in the same instant, and a disciplined one is slewed."""


def mono_us(records: Sequence[Record], reading: Reading) -> list[int]:
    """Each record's time on the monotonic clock. What its source has dated gets that of the reading."""
    at, now_us, found = reading.at, reading.mono_us, []
    for record in records:
        age = at - (record.end if type(record) is SketchWindow else record.at)
        is_near = age.days == 0 and age.seconds < _NEAR_S
        found.append(max(0, now_us - age.seconds * 1_000_000 - age.microseconds) if is_near else now_us)
    return found


def redate(batch: Batch, made_offset_us: int, offset_us: int) -> Batch:
    """The same batch, "corrected": what was dated by a wall clock that was `made_offset_us` from the monotonic one, is dated by one that is
    `offset_us` from it. What its source has dated stays. Raises MalformedMessage, TooLarge."""
    content = batches.unpack(batch)
    if isinstance(content, ResultColumns):
        times = zip(columns.sums(content.at_us), columns.sums(content.mono_us), strict=True)
        shift_us = offset_us - made_offset_us
        moved = columns.dated(content, [at + shift_us if abs(at - mono - made_offset_us) < _SAME_US else at for at, mono in times])
    else:
        rows = zip(content.records, content.mono_us, strict=True)
        moved = Rows([_moved(wire, mono_us, made_offset_us, offset_us) for wire, mono_us in rows], content.mono_us)
    packed = batches.seal(moved)
    return msgspec.structs.replace(batch, codec=packed.codec, length=packed.length, data=packed.data, clock="corrected")


def _dated(record: Record):
    return record.end if isinstance(record, SketchWindow) else record.at


def _moved(wire: bytes, mono_us: int, made_offset_us: int, offset_us: int) -> bytes:
    record = decode_record(wire)
    if abs(microseconds(_dated(record)) - mono_us - made_offset_us) >= _SAME_US:
        return wire
    shift = (offset_us - made_offset_us) * _US
    if isinstance(record, SketchWindow):
        return encode_record(msgspec.structs.replace(record, start=record.start + shift, end=record.end + shift))
    return encode_record(msgspec.structs.replace(record, at=record.at + shift))
