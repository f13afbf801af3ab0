"""What one answer rests on: how much of it goes when a part of its input is taken away. What is taken away is not zero, which is a value as any other,
but what other rows have there (Robnik-Šikonja and Kononenko 2008); of pictures the training rows' mean (Zeiler and Fergus 2014).
"""

from dataclasses import dataclass

import numpy as np

from fleet_contract.outputs import OutputSpec
from model_tools.data.dataset import Dataset
from model_tools.explain.asking import Respond, respond_each
from model_tools.explain.importance import segments
from model_tools.explain.worth import answers_of, spoken, worth

_OTHERS = 16
_CELLS = 8
_WIDE = 2
"""Cells that are covered at once, on both sides."""


@dataclass(frozen=True)
class Case:
    """One answer. `weights` float64 is what it loses (unit: worth.unit_of) without each column (columns,), each stretch of each column of a window
    (stretches, columns), or each cell of a picture (cells, cells): above 0 speaks for the answer, below 0 against it."""

    id: str
    label: str
    answer: str
    worth: float
    weights: np.ndarray


def cases(respond: Respond, rows: Dataset, known: Dataset, output: OutputSpec, seed: int) -> list[Case]:
    """Of each of the rows; `known` are training rows."""
    if not len(rows):
        return []
    outputs = respond(rows.inputs)
    answers = answers_of(outputs, output)
    full = worth(outputs, output, answers)
    weigh = _cells if rows.inputs.ndim == 4 else _columns
    weights = weigh(respond, rows, known, output, answers, full, seed)
    told = spoken(outputs, output, rows)
    return [Case(id_, *words, float(value), weight) for id_, words, value, weight in zip(rows.ids, told, full, weights, strict=True)]


def _columns(
    respond: Respond, rows: Dataset, known: Dataset, output: OutputSpec, answers: np.ndarray, full: np.ndarray, seed: int
) -> np.ndarray:
    """float64 (rows, columns), or (rows, stretches, columns)."""
    others = known.inputs[np.random.default_rng(seed).permutation(len(known))[:_OTHERS]]
    places = _places(rows)
    told = respond_each(respond, (_replaced(inputs, others, place) for inputs in rows.inputs for place in places))
    lost = np.empty((len(rows), len(places)))
    for at, outputs in enumerate(told):
        row, place = divmod(at, len(places))
        lost[row, place] = full[row] - worth(outputs, output, np.full(len(others), answers[row])).mean()
    return lost.reshape(len(rows), -1, rows.inputs.shape[-1]) if rows.inputs.ndim == 3 else lost


def _places(rows: Dataset) -> list[tuple]:
    columns = range(rows.inputs.shape[-1])
    if rows.inputs.ndim == 2:
        return [(slice(None), column) for column in columns]
    return [(slice(None), steps, column) for steps in segments(rows.inputs.shape[1]) for column in columns]


def _replaced(inputs: np.ndarray, others: np.ndarray, place: tuple) -> np.ndarray:
    copies = np.repeat(inputs[None], len(others), axis=0)
    copies[place] = others[place]
    return copies


def _cells(
    respond: Respond, rows: Dataset, known: Dataset, output: OutputSpec, answers: np.ndarray, full: np.ndarray, seed: int
) -> np.ndarray:
    """float64 (rows, cells, cells)."""
    blank = known.inputs.mean(axis=0)
    ys, xs = (np.linspace(0, side, min(_CELLS, side) + 1).astype(int) for side in rows.inputs.shape[2:])
    corners = [(y, x) for y in range(len(ys) - _WIDE) for x in range(len(xs) - _WIDE)]
    patches = [np.s_[..., ys[y] : ys[y + _WIDE], xs[x] : xs[x + _WIDE]] for y, x in corners]
    told = respond_each(respond, (_covered(rows.inputs, blank, patch) for patch in patches))
    lost, covered = np.zeros((len(rows), len(ys) - 1, len(xs) - 1)), np.zeros((len(ys) - 1, len(xs) - 1))
    for (y, x), outputs in zip(corners, told, strict=True):
        cells = np.s_[..., y : y + _WIDE, x : x + _WIDE]
        lost[cells] += (full - worth(outputs, output, answers))[:, None, None]
        covered[cells] += 1
    return lost / covered


def _covered(inputs: np.ndarray, blank: np.ndarray, patch: tuple) -> np.ndarray:
    left = inputs.copy()
    left[patch] = np.broadcast_to(blank, inputs.shape)[patch]
    return left


def spread_over(cells: np.ndarray, height: int, width: int) -> np.ndarray:
    """(cells, cells) as (height, width), each cell over its pixels."""
    ys, xs = (np.linspace(0, side, count + 1).astype(int) for side, count in ((height, cells.shape[0]), (width, cells.shape[1])))
    return np.repeat(np.repeat(cells, np.diff(ys), axis=0), np.diff(xs), axis=1)
