"""What a model loses when one part of its inputs is shuffled among the rows (Breiman 2001; Fisher, Rudin and Dominici 2019, arXiv 1801.01489)."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from fleet_contract.outputs import OutputSpec
from model_tools.data.dataset import Dataset
from model_tools.evaluate.scoring import score
from model_tools.explain.asking import Respond, respond_each

_REPEATS = 5
_ALIKE = 0.9
_MOST_ROWS = 500
_MOST_VALUES = 2**27
"""Given to the model in all; more columns are shuffled over fewer rows."""
SEGMENTS = 8


@dataclass(frozen=True)
class Importance:
    """`drop` is the mean quality lost over five shuffles and `spread` their standard deviation. A part is a column, several columns that tell nearly
    the same (each alone seems to matter little, as the others stand in for it), or a stretch of a window's time."""

    name: str
    drop: float
    spread: float


@dataclass(frozen=True)
class _Part:
    name: str
    columns: Sequence[int]
    steps: slice | None = None


def importances(respond: Respond, rows: Dataset, output: OutputSpec, seed: int) -> list[Importance]:
    """The weightiest first; of vectors and windows. Quality is Evaluation.quality over at most 500 of the rows, drawn by the seed."""
    rng = np.random.default_rng(seed)
    parts = [*_parts(rows)]
    chosen = rows.select(np.sort(rng.permutation(len(rows))[: _affordable(rows, len(parts))]))
    base = score(respond(chosen.inputs), chosen, output, 0).quality
    told = respond_each(respond, (_shuffled(chosen, part, rng) for part in parts for _ in range(_REPEATS)))
    drops = np.array([base - score(outputs, chosen, output, 0).quality for outputs in told]).reshape(len(parts), _REPEATS)
    found = [Importance(part.name, float(lost.mean()), float(lost.std())) for part, lost in zip(parts, drops, strict=True)]
    return sorted(found, key=lambda one: (-one.drop, one.name))


def _shuffled(rows: Dataset, part: _Part, rng: np.random.Generator) -> np.ndarray:
    inputs = rows.inputs.copy()
    at = (slice(None), *([part.steps or slice(None)] if inputs.ndim == 3 else []), list(part.columns))
    inputs[at] = rows.inputs[rng.permutation(len(rows))][at]
    return inputs


def _parts(rows: Dataset) -> Iterator[_Part]:
    for at, column in enumerate(rows.columns):
        yield _Part(column, [at])
    for alike in alike_columns(rows):
        yield _Part(" + ".join(rows.columns[at] for at in alike), alike)
    if rows.inputs.ndim == 3:
        everything = range(rows.inputs.shape[2])
        for steps in segments(rows.inputs.shape[1]):
            yield _Part(f"samples {steps.start + 1} to {steps.stop}", everything, steps)


def segments(length: int) -> list[slice]:
    """At most eight stretches of a window, the oldest first."""
    edges = np.linspace(0, length, min(SEGMENTS, length) + 1).astype(int)
    return [slice(int(a), int(b)) for a, b in itertools.pairwise(edges)]


def alike_columns(rows: Dataset) -> list[list[int]]:
    """Groups of columns of which each is nearly one other's, up or down: |rank correlation| from 0.9 on."""
    levels = rows.inputs if rows.inputs.ndim == 2 else rows.inputs.mean(axis=1)
    ranks = levels.argsort(axis=0).argsort(axis=0).astype(np.float64)
    ranks -= ranks.mean(axis=0)
    varied = np.flatnonzero(levels.std(axis=0) > 0)
    norm = np.linalg.norm(ranks, axis=0)
    group = {int(at): int(at) for at in varied}
    for i in group:
        for j in [j for j in group if j > i and abs(ranks[:, i] @ ranks[:, j]) >= _ALIKE * norm[i] * norm[j]]:
            old, new = group[j], group[i]
            group = {at: new if owner == old else owner for at, owner in group.items()}
    members = [[at for at, owner in group.items() if owner == one] for one in sorted({*group.values()})]
    return [columns for columns in members if len(columns) > 1]


def _affordable(rows: Dataset, parts: int) -> int:
    each = max(1, parts) * _REPEATS * max(1, rows.inputs[0].size if len(rows) else 1)
    return max(20, min(_MOST_ROWS, _MOST_VALUES // each))
