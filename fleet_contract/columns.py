"""Results as columns: little-endian buffers that become arrays without a loop over rows, and compress several times better than rows.

Nothing here needs numpy: the device packs with it while numpy may not be loaded yet.
"""

import sys
from array import array
from collections.abc import Iterator, Sequence
from itertools import accumulate
from operator import sub
from typing import Annotated

import msgspec

from fleet_contract import limits
from fleet_contract.answers.detail import Detail
from fleet_contract.errors import MalformedMessage
from fleet_contract.instants import microseconds, moment
from fleet_contract.messages import Result

_AT_MOST = msgspec.Meta(max_length=limits.MAX_BATCH_RECORDS)


class Words(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Texts, one a row: UTF-8 end to end, and where each ends (uint32)."""

    data: bytes
    ends: bytes


class ResultColumns(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """One row an inference, in the order of the sequence numbers.

    `at_us` and `mono_us` are int64 microseconds (since 1970 UTC; on the device's monotonic clock), each the difference from the row before, the
    first from 0. `bundle` and `label` are uint16 positions in `bundles` and `labels` (None: the model gave no label), empty where all rows have
    position 0. `value` is float64, `latency_us` uint64. `abstained` has a byte a row, `details` an element a row; both are empty where no row
    has any. No list is longer than a batch may be: a name takes a byte of the message and seventy of whoever reads it.
    """

    at_us: bytes
    mono_us: bytes
    bundles: Annotated[list[str], _AT_MOST]
    bundle: bytes
    input_id: Words
    labels: Annotated[list[str | None], _AT_MOST]
    label: bytes
    value: bytes
    latency_us: bytes
    abstained: bytes
    details: Annotated[list[Detail | None], _AT_MOST]

    def __len__(self) -> int:
        return len(self.value) // 8


def from_results(results: Sequence[Result], mono_us: Sequence[int]) -> ResultColumns:
    bundles, bundle = _positions([result.bundle for result in results])
    labels, label = _positions([result.label for result in results])
    details = [None if result.detail is msgspec.UNSET else result.detail for result in results]
    abstained = bytes([result.abstained is True for result in results])
    return ResultColumns(
        at_us=differences([microseconds(result.at) for result in results]),
        mono_us=differences(mono_us),
        bundles=bundles,
        bundle=bundle,
        input_id=_words([result.input_id for result in results]),
        labels=labels,
        label=label,
        value=buffer("d", [result.value for result in results]),
        latency_us=buffer("Q", [result.latency_us for result in results]),
        abstained=abstained if any(abstained) else b"",
        details=details if any(detail is not None for detail in details) else [],
    )


def to_results(content: ResultColumns) -> list[Result]:
    """What `from_results` was given. `content` has passed `check`."""
    rows = zip(
        sums(content.at_us),
        _named(content.bundles, content.bundle, len(content)),
        _texts(content.input_id),
        _named(content.labels, content.label, len(content)),
        numbers("d", content.value),
        numbers("Q", content.latency_us),
        content.abstained or bytes(len(content)),
        content.details or [None] * len(content),
        strict=True,
    )
    return [
        Result(
            at=moment(at_us),
            bundle=bundle,
            input_id=input_id,
            label=label,
            value=value,
            latency_us=latency_us,
            abstained=bool(abstained) or msgspec.UNSET,
            detail=msgspec.UNSET if detail is None else detail,
        )
        for at_us, bundle, input_id, label, value, latency_us, abstained, detail in rows
    ]


def dated(content: ResultColumns, at_us: Sequence[int]) -> ResultColumns:
    """The same rows with these times."""
    return msgspec.structs.replace(content, at_us=differences(at_us))


def sums(steps: bytes) -> list[int]:
    """The values of `at_us` or `mono_us`."""
    total, values = 0, []
    for step in numbers("q", steps):
        total += step
        values.append(total)
    return values


def check(content: ResultColumns) -> int:
    """How many rows all columns have. What stands in them may be anything of its type. Raises MalformedMessage."""
    rows, ragged = divmod(len(content.value), 8)
    wide = {"at_us": content.at_us, "mono_us": content.mono_us, "latency_us": content.latency_us}
    for name, column in wide.items():
        ragged = ragged or len(column) != rows * 8
        if ragged:
            raise MalformedMessage(f"{name} and value differ in their rows", field=name)
    optional = (("bundle", content.bundle, 2), ("label", content.label, 2), ("abstained", content.abstained, 1))
    for name, column, width in (*optional, ("details", content.details, 1)):
        if column and len(column) != rows * width:
            raise MalformedMessage(f"{name} is not as long as value", field=name)
    _check_positions(content.bundles, content.bundle, "bundle")
    _check_positions(content.labels, content.label, "label")
    _check_words(content.input_id, rows)
    return rows


def _check_positions(names: Sequence[str | None], positions: bytes, field: str) -> None:
    if max(numbers("H", positions), default=0) >= len(names):
        raise MalformedMessage(f"{field} names what is not in its list", field=field, limit=len(names))


def _check_words(words: Words, rows: int) -> None:
    ends = numbers("I", words.ends).tolist() if len(words.ends) == rows * 4 else []
    if len(ends) != rows or (ends[-1] if rows else 0) != len(words.data) or ends != sorted(ends):
        raise MalformedMessage("the ends of the input ids do not fit their text", field="input_id")
    if words.data.isascii():
        return
    try:
        "".join(_texts(words))
    except UnicodeDecodeError as error:
        raise MalformedMessage("an input id is not UTF-8", field="input_id") from error


def _positions(names: Sequence[str | None]) -> tuple[list, bytes]:
    """The different names, in the order of their first row, and each row's position; no positions where there is but one name."""
    known: dict[str | None, int] = {}
    rows = [known.setdefault(name, len(known)) for name in names]
    return list(known), buffer("H", rows) if len(known) > 1 else b""


def _named(names: Sequence[str | None], positions: bytes, rows: int) -> list:
    return [names[at] for at in numbers("H", positions)] if positions else [*names[:1]] * rows


def _words(texts: Sequence[str]) -> Words:
    whole = "".join(texts)
    pieces = texts if whole.isascii() else [text.encode() for text in texts]
    return Words(whole.encode(), buffer("I", list(accumulate(map(len, pieces)))))


def _texts(words: Words) -> Iterator[str]:
    start = 0
    for end in numbers("I", words.ends):
        yield words.data[start:end].decode()
        start = end


def differences(values: Sequence[int]) -> bytes:
    """What `sums` reads."""
    return buffer("q", [*values[:1], *map(sub, values[1:], values)])


def buffer(kind: str, values: Sequence[int] | Sequence[float]) -> bytes:
    """Little-endian, of array's type `kind`."""
    return _little(array(kind, values)).tobytes()


def numbers(kind: str, column: bytes) -> array:
    return _little(array(kind, column))


def _little(values: array) -> array:
    if sys.byteorder == "big":
        values.byteswap()
    return values
