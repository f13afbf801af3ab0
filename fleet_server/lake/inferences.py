"""The inferences of many batches as arrays: joined, summed and checked column by column, never row by row."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import msgspec
import numpy as np
from numpy.typing import NDArray

from fleet_contract import batches, columns, limits
from fleet_contract.columns import ResultColumns
from fleet_contract.errors import ContractError, MalformedMessage
from fleet_contract.limits import MAX_BATCH_RECORDS
from fleet_server.domain.epochs import StreamKey
from fleet_server.domain.records import MAX_WORD_CHARS, YEARS, is_digest, is_word
from fleet_server.lake import decompression
from fleet_server.lake.streams import Fresh

_AT_US = (np.datetime64(f"{YEARS.start}", "us").astype(np.int64), np.datetime64(f"{YEARS.stop}", "us").astype(np.int64))
_NO_POSITIONS = bytes(2 * MAX_BATCH_RECORDS)
_NOWHERE = np.empty(0, np.int64)
_REASONS = ("", "out-of-range", "bad-bundle-digest", "bad-text", "not-finite")


@dataclass(frozen=True)
class Spoilt:
    """`count` records from `seq` on that cannot be kept."""

    stream: StreamKey
    seq: int
    count: int
    reason: str
    received_at_us: int


@dataclass(frozen=True)
class Inferences:
    """One element a row in each array; those of codes are positions in the names beside them. The input id of row r is text[offsets[r]:offsets[r + 1]];
    `counts` are the rows of each batch in `fresh`, one after the other."""

    fresh: Sequence[Fresh]
    counts: NDArray[np.int64]
    seq: NDArray[np.int64]
    at_us: NDArray[np.int64]
    mono_us: NDArray[np.int64]
    bundles: list[str]
    bundle: NDArray[np.int32]
    labels: list[str | None]
    label: NDArray[np.int32]
    text: bytes
    offsets: NDArray[np.int32]
    value: NDArray[np.float64]
    latency_us: NDArray[np.int64]
    abstained: NDArray[np.bool_]
    details: list[str | None] | None
    keep: NDArray[np.bool_]
    """False where a row was stored before or is spoilt."""

    def __len__(self) -> int:
        return len(self.seq)


def gather(fresh: Sequence[Fresh]) -> tuple[Inferences | None, list[Spoilt]]:
    """Of batches of the telemetry lane; None where there are no rows that can be read."""
    opened: list[tuple[Fresh, ResultColumns]] = []
    spoilt: list[Spoilt] = []
    for each, whole in zip(fresh, decompression.contents([each.piece.batch for each in fresh]), strict=True):
        try:
            opened.append((each, _open(each, whole)))
        except ContractError as error:
            spoilt += spoil(each, error.code)
    if not opened:
        return None, spoilt
    try:
        joined = _join(opened)
    except MalformedMessage:
        return _without_bad(fresh)
    reasons = _check(joined)
    if reasons.any():
        return replace(joined, keep=joined.keep & (reasons == 0)), spoilt + _spoilt_rows(joined, reasons)
    return joined, spoilt


def spoil(fresh: Fresh, reason: str) -> list[Spoilt]:
    """All that is new in a batch."""
    piece = fresh.piece
    if fresh.numbers is None and piece.batch.stride == 1:
        return [Spoilt(piece.stream, piece.batch.first, piece.batch.count, reason, piece.received_at_us)]
    numbers = fresh.numbers or piece.batch.sequences
    return [Spoilt(piece.stream, number, 1, reason, piece.received_at_us) for number in sorted(numbers)]


def _open(fresh: Fresh, whole: memoryview | None = None) -> ResultColumns:
    """With columns of the right lengths; what stands in them is checked for all together."""
    batch = fresh.piece.batch
    content = batches.decode(batch, whole)
    wide, pairs = batch.count * 8, (0, batch.count * 2)
    fits = (
        len(content.value) == len(content.at_us) == len(content.mono_us) == len(content.latency_us) == wide
        and len(content.bundle) in pairs
        and len(content.label) in pairs
        and len(content.abstained) in (0, batch.count)
        and len(content.details) in (0, batch.count)
        and len(content.input_id.ends) == batch.count * 4
    )
    if not fits:
        raise MalformedMessage("columns differ in their rows", field="data")
    return msgspec.structs.replace(content, details=_texts(content)) if content.details else content


def _texts(content: ResultColumns) -> list[str | None]:
    """Details as JSON, in which NaN and infinity are null: before the next batch's are made objects of."""
    return [None if each is None else _json.encode(each).decode() for each in content.details]


def _without_bad(fresh: Sequence[Fresh]) -> tuple[Inferences | None, list[Spoilt]]:
    """One of the batches is no good: each is checked for itself. Slow, and rare."""
    good: list[Fresh] = []
    spoilt: list[Spoilt] = []
    for each in fresh:
        try:
            columns.check(_open(each))
            good.append(each)
        except ContractError as error:
            spoilt += spoil(each, error.code)
    found, more = gather(good)
    return found, spoilt + more


def _join(opened: Sequence[tuple[Fresh, ResultColumns]]) -> Inferences:
    """Raises MalformedMessage when a batch is not what columns.check would let pass."""
    fresh, contents = [each for each, _ in opened], [content for _, content in opened]
    counts = np.array([each.piece.batch.count for each in fresh])
    starts = np.cumsum(counts) - counts
    bundles, bundle = _named([content.bundles for content in contents], [content.bundle for content in contents], counts)
    labels, label = _named([content.labels for content in contents], [content.label for content in contents], counts)
    text, offsets = _text(contents, counts, starts)
    return Inferences(
        fresh=fresh,
        counts=counts,
        seq=_sequences(fresh, counts, starts),
        at_us=_summed(b"".join([content.at_us for content in contents]), starts),
        mono_us=_summed(b"".join([content.mono_us for content in contents]), starts),
        bundles=bundles,
        bundle=bundle,
        labels=labels,
        label=label,
        text=text,
        offsets=offsets,
        value=np.frombuffer(b"".join([content.value for content in contents]), "<f8"),
        latency_us=np.frombuffer(b"".join([content.latency_us for content in contents]), "<i8"),
        abstained=np.frombuffer(_filled([content.abstained for content in contents], counts, 1), "u1") != 0,
        details=_details(contents, counts),
        keep=_new(fresh, counts),
    )


def _summed(differences: bytes, starts: NDArray) -> NDArray[np.int64]:
    """The differences of each batch added up from its own first one."""
    steps = np.frombuffer(bytearray(differences), "<i8")
    steps[starts[1:]] -= np.add.reduceat(steps, starts)[:-1]
    return np.cumsum(steps, out=steps)


def _sequences(fresh: Sequence[Fresh], counts: NDArray, starts: NDArray) -> NDArray[np.int64]:
    first = np.array([each.piece.batch.first for each in fresh])
    stride = np.array([each.piece.batch.stride for each in fresh])
    steps = np.repeat(stride, counts)
    steps[starts] = first
    steps[starts[1:]] -= (first + stride * (counts - 1))[:-1]
    return np.cumsum(steps, out=steps)


def _named(lists: Sequence[list], positions: Sequence[bytes], counts: NDArray) -> tuple[list, NDArray[np.int32]]:
    """Each batch's own list of names made one, and every row's place in it."""
    known: dict[str | None, int] = {}
    codes = np.array([known.setdefault(name, len(known)) for names in lists for name in names] or [0], np.int32)
    lengths = np.array([len(names) for names in lists])
    offsets = (np.cumsum(lengths) - lengths).astype(np.int32)
    within = np.frombuffer(_filled(positions, counts, 2), "<u2") if any(positions) else None
    highest = 0 if within is None else np.maximum.reduceat(within, np.cumsum(counts) - counts)
    if (highest >= lengths).any():
        raise MalformedMessage("a position that its list does not have", field="data")
    return list(known), np.repeat(codes[offsets], counts) if within is None else codes[np.repeat(offsets, counts) + within]


def _filled(parts: Sequence[bytes], counts: NDArray, width: int) -> bytes:
    """An empty part stands for zeros."""
    if not any(parts):
        return bytes(width * int(counts.sum()))
    return b"".join([part or _NO_POSITIONS[: width * count] for part, count in zip(parts, counts.tolist(), strict=True)])


def _text(contents: Sequence[ResultColumns], counts: NDArray, starts: NDArray) -> tuple[bytes, NDArray[np.int32]]:
    """The input ids end to end, and where each begins and ends."""
    text = b"".join([content.input_id.data for content in contents])
    lengths = np.array([len(content.input_id.data) for content in contents])
    ends = np.frombuffer(b"".join([content.input_id.ends for content in contents]), "<u4")
    first, last = ends[starts], ends[starts + counts - 1]
    falls = ends[1:] < ends[:-1]
    falls[starts[1:] - 1] = False
    if falls.any() or (last != lengths).any() or not (text.isascii() or _is_utf8(text, contents)):
        raise MalformedMessage("input ids that do not fit their text", field="input_id")
    offsets = np.zeros(len(ends) + 1, np.int32)
    np.subtract(ends[1:], ends[:-1], out=offsets[2:], casting="unsafe")
    offsets[starts + 1] = first
    return text, np.cumsum(offsets, out=offsets, dtype=np.int32)


def _is_utf8(text: bytes, contents: Sequence[ResultColumns]) -> bool:
    """Also each by itself: two halves of one letter would pass together."""
    try:
        for content in contents:
            if not content.input_id.data.isascii():
                columns.check(content)
    except MalformedMessage:
        return False
    return True


def _details(contents: Sequence[ResultColumns], counts: NDArray) -> list[str | None] | None:
    if not any(content.details for content in contents):
        return None
    found: list[str | None] = []
    for content, count in zip(contents, counts.tolist(), strict=True):
        found += content.details or [None] * count
    return found


def _new(fresh: Sequence[Fresh], counts: NDArray) -> NDArray[np.bool_]:
    keep = np.ones(int(counts.sum()), np.bool_)
    for at in [at for at, each in enumerate(fresh) if each.numbers is not None]:
        start, batch = int(counts[:at].sum()), fresh[at].piece.batch
        keep[start : start + batch.count] = [number in (fresh[at].numbers or ()) for number in batch.sequences]
    return keep


def _check(rows: Inferences) -> NDArray[np.int8]:
    """A position in _REASONS for each row, as domain.records would have it."""
    reasons = np.zeros(len(rows), np.int8)
    reasons[~np.isfinite(rows.value)] = 4
    reasons[_misfits(rows.labels, rows.label, lambda label: is_word(label or ""))] = 3
    reasons[_bad_texts(rows)] = 3
    reasons[_misfits(rows.bundles, rows.bundle, is_digest)] = 2
    reasons[_outside(rows.at_us, _AT_US)] = 1
    reasons[_outside(rows.latency_us, (0, limits.MAX_COUNT + 1))] = 1
    return reasons


def _misfits(names: Sequence, codes: NDArray, fits: Callable[..., bool]) -> NDArray[np.int64]:
    bad = np.array([not fits(name) for name in names], np.bool_)
    return np.flatnonzero(bad[codes]) if bad.any() else _NOWHERE


def _outside(values: NDArray[np.int64], bounds: tuple[int, int]) -> NDArray[np.int64]:
    low, high = bounds
    if values.min() >= low and values.max() < high:
        return _NOWHERE
    return np.flatnonzero((values < low) | (values >= high))


def _bad_texts(rows: Inferences) -> NDArray[np.int64]:
    """The rows whose input id is too long or has a NUL."""
    begins, ends = rows.offsets[:-1], rows.offsets[1:]
    long = np.flatnonzero(ends - begins > MAX_WORD_CHARS)
    found = [at for at in long.tolist() if not is_word(rows.text[begins[at] : ends[at]].decode())]
    nul = np.flatnonzero(np.frombuffer(rows.text, "u1") == 0) if b"\0" in rows.text else _NOWHERE
    return np.concatenate([np.array(found, np.int64), np.searchsorted(ends, nul, side="right")])


def _spoilt_rows(rows: Inferences, reasons: NDArray[np.int8]) -> list[Spoilt]:
    found = []
    ends = np.cumsum(rows.counts)
    for at in np.flatnonzero(reasons):
        each = rows.fresh[np.searchsorted(ends, at, side="right")]
        if each.numbers is None or int(rows.seq[at]) in each.numbers:
            found.append(Spoilt(each.piece.stream, int(rows.seq[at]), 1, _REASONS[reasons[at]], each.piece.received_at_us))
    return found


_json = msgspec.json.Encoder()
