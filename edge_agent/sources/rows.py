"""Rows of numbers, whatever carried them, as inputs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import msgspec
import numpy as np

from edge_agent.errors import Fatal
from edge_agent.ports import Input
from fleet_contract.inputs import InputSpec, VectorInput

JSON = "application/json"
BAD_ROW = "bad-row"
KEPT_CHARS = 1_000
"""Of a row that could not be read."""


@dataclass(frozen=True)
class Columns:
    """What is wanted of each row: the model's columns, and the one that says when (None: the row does not)."""

    names: tuple[str, ...]
    time: str | None = None


@dataclass(frozen=True)
class Row:
    numbers: list[float]
    at: datetime | None = None


def columns_of(spec: InputSpec, time: str | None, what: str) -> Columns:
    """Raises Fatal for a model that is not fed with columns."""
    if not isinstance(spec, VectorInput):
        raise Fatal(
            f"{what} feeds columns, but the model wants pictures or tensors: use a camera:, folder: or python: source", code="source"
        )
    return Columns(tuple(spec.columns), time)


def to_input(row: Row, name: str, now: datetime, cursor: str | None) -> Input:
    with np.errstate(over="ignore"):  # becomes infinite, which is refused
        values = np.array(row.numbers).astype(np.float32)
    return Input(name, row.at or now, cursor, JSON, msgspec.json.encode(row.numbers), values)


def to_refusal(data: bytes, media_type: str, name: str, now: datetime, cursor: str | None) -> Input:
    return Input(name, now, cursor, media_type, data[:KEPT_CHARS], None, BAD_ROW)


def pick(header: Sequence[str], wanted: Columns, where: str) -> list[int]:
    """The position of each wanted column. Raises Fatal naming what is missing or repeated."""
    names = [name.strip() for name in header]
    needed = [*wanted.names, *([wanted.time] if wanted.time is not None else [])]
    missing = [name for name in needed if name not in names]
    if missing:
        raise Fatal(f"{where} lacks the columns {', '.join(missing)}; its header has {', '.join(names) or 'none'}", code="missing-columns")
    repeated = [name for name in needed if names.count(name) > 1]
    if repeated:
        raise Fatal(f"{where} has the columns {', '.join(repeated)} more than once", code="repeated-columns")
    return [names.index(name) for name in wanted.names]
