"""What devices measured of a bundle, as their events tell it and as a person wants to see it: one line a variant, backend and profile. Pure."""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from statistics import median
from typing import Annotated, Protocol

import msgspec

from fleet_contract import limits
from fleet_contract.messages import Event

KIND = "model.measured"
RIGHT = "right"
_SHA256 = re.compile(r"[0-9a-f]{64}")
_Word = Annotated[str, msgspec.Meta(min_length=1, max_length=limits.MAX_MEASUREMENT_WORD_CHARS)]
_Figure = Annotated[float, msgspec.Meta(ge=0)]


class Measured(msgspec.Struct, frozen=True):
    """The detail of an event of this kind."""

    bundle: str
    variant: _Word
    backend: _Word
    verdict: _Word
    message: str
    p50_us: _Figure
    p99_us: _Figure
    memory_bytes: Annotated[int, msgspec.Meta(ge=0)]
    load_ms: _Figure
    max_difference: _Figure
    chosen: bool


class Row(Protocol):
    """One stored measurement, and the profile of its device."""

    profile: str
    bundle: str
    variant: str
    backend: str
    verdict: str
    message: str
    p50_us: float
    p99_us: float
    memory_bytes: int
    load_ms: float
    max_difference: float
    chosen: bool


@dataclass(frozen=True)
class Summary:
    """Over the devices of one profile. Medians are of those where the verdict is right, None where there is none; `max_difference` is the largest
    of them. `message` is one device's word on the most frequent other verdict."""

    profile: str
    bundle: str
    variant: str
    backend: str
    devices: int
    chosen: int
    verdicts: dict[str, int]
    message: str
    p50_us: float | None
    p99_us: float | None
    memory_bytes: float | None
    load_ms: float | None
    max_difference: float | None


def read(event: Event) -> Measured | None:
    """None for another event, or one whose detail is not a measurement's: it is an event all the same."""
    if event.kind != KIND:
        return None
    try:
        measured = msgspec.convert(event.detail, Measured)
    except msgspec.ValidationError:
        return None
    return measured if _SHA256.fullmatch(measured.bundle) else None


def summarise(rows: Iterable[Row]) -> list[Summary]:
    """By profile, bundle and variant; within these the fastest backend first, those that were nowhere right last."""
    ordered = sorted(rows, key=_line)
    found = [_summary(list(group)) for _, group in groupby(ordered, key=_line)]
    return sorted(found, key=lambda one: (one.profile, one.bundle, one.variant, one.p50_us is None, one.p50_us or 0.0, one.backend))


def _line(row: Row) -> tuple[str, str, str, str]:
    return row.profile, row.bundle, row.variant, row.backend


def _summary(rows: Sequence[Row]) -> Summary:
    verdicts = Counter(row.verdict for row in rows)
    others = Counter(row.verdict for row in rows if row.verdict != RIGHT)
    told = others.most_common(1)[0][0] if others else ""
    right = [row for row in rows if row.verdict == RIGHT]
    return Summary(
        *_line(rows[0]),
        devices=len(rows),
        chosen=sum(row.chosen for row in rows),
        verdicts=dict(sorted(verdicts.items())),
        message=next((row.message for row in rows if row.verdict == told), ""),
        p50_us=_of(median, [row.p50_us for row in right]),
        p99_us=_of(median, [row.p99_us for row in right]),
        memory_bytes=_of(median, [row.memory_bytes for row in right]),
        load_ms=_of(median, [row.load_ms for row in right]),
        max_difference=_of(max, [row.max_difference for row in right]),
    )


def _of(rule: Callable[[list], float], values: list) -> float | None:
    return rule(values) if values else None
