"""Columns of results joined and thinned, without making results of them."""

from array import array
from collections.abc import Sequence
from itertools import accumulate

from fleet_contract.columns import ResultColumns, Words, buffer, differences, numbers, sums


def joined(parts: Sequence[ResultColumns]) -> ResultColumns:
    """The rows of all, in order. Each has passed columns.check."""
    bundles, bundle = _positions([(part.bundles, part.bundle, len(part)) for part in parts])
    labels, label = _positions([(part.labels, part.label, len(part)) for part in parts])
    return ResultColumns(
        at_us=_differences([part.at_us for part in parts]),
        mono_us=_differences([part.mono_us for part in parts]),
        bundles=bundles,
        bundle=bundle,
        input_id=_words([part.input_id for part in parts]),
        labels=labels,
        label=label,
        value=b"".join(part.value for part in parts),
        latency_us=b"".join(part.latency_us for part in parts),
        abstained=b"".join(part.abstained or bytes(len(part)) for part in parts) if any(part.abstained for part in parts) else b"",
        details=[one for part in parts for one in part.details or [None] * len(part)] if any(part.details for part in parts) else [],
    )


def picked(content: ResultColumns, first: int, step: int) -> ResultColumns:
    """The rows `first`, `first + step`, ..."""
    rows = slice(first, None, step)
    ends = numbers("I", content.input_id.ends).tolist()
    texts = [content.input_id.data[start:end] for start, end in zip([0, *ends], ends, strict=False)][rows]
    bundles, bundle = _used(content.bundles, numbers("H", content.bundle)[rows])
    labels, label = _used(content.labels, numbers("H", content.label)[rows])
    return ResultColumns(
        at_us=differences(sums(content.at_us)[rows]),
        mono_us=differences(sums(content.mono_us)[rows]),
        bundles=bundles,
        bundle=bundle,
        input_id=Words(b"".join(texts), buffer("I", list(accumulate(map(len, texts))))),
        labels=labels,
        label=label,
        value=buffer("d", numbers("d", content.value)[rows]),
        latency_us=buffer("Q", numbers("Q", content.latency_us)[rows]),
        abstained=content.abstained[rows],
        details=content.details[rows],
    )


def _differences(parts: Sequence[bytes]) -> bytes:
    """The first of each part but the first is the difference from the last of the part before."""
    last, found = 0, array("q")
    for part in parts:
        values = numbers("q", part)
        total = sum(values)
        if values:
            values[0] -= last
            last = total
        found += values
    return buffer("q", found)


def _positions(parts: Sequence[tuple[Sequence[str | None], bytes, int]]) -> tuple[list, bytes]:
    known: dict[str | None, int] = {}
    rows: list[int] = []
    for names, positions, count in parts:
        moved = [known.setdefault(name, len(known)) for name in names]
        rows += [moved[at] for at in numbers("H", positions)] if positions else [*moved[:1]] * count
    return list(known), buffer("H", rows) if len(known) > 1 else b""


def _used(names: Sequence[str | None], positions: Sequence[int]) -> tuple[list, bytes]:
    """Only the names that rows still have; those without positions all have the first."""
    if not positions:
        return [*names[:1]], b""
    known: dict[str | None, int] = {}
    rows = [known.setdefault(names[at], len(known)) for at in positions]
    return list(known), buffer("H", rows) if len(known) > 1 else b""


def _words(parts: Sequence[Words]) -> Words:
    start, ends = 0, []
    for part in parts:
        ends += [start + end for end in numbers("I", part.ends)]
        start += len(part.data)
    return Words(b"".join(part.data for part in parts), buffer("I", ends))
