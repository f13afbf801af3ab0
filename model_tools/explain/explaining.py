"""A model explained on the task's test rows: as a whole, and answer by answer."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from fleet_contract.outputs import OutputSpec, Regression
from model_tools.adopt.isolation import Bounds, isolated
from model_tools.compare.subjects import Subject, answer, respond
from model_tools.data.dataset import Dataset, Splits
from model_tools.evaluate.scoring import score
from model_tools.explain.asking import Respond
from model_tools.explain.importance import Importance, importances
from model_tools.explain.occlusion import Case, cases
from model_tools.explain.worth import answers_of, unit_of
from model_tools.task import Task

_MAP_ROWS = 60
_CASES = 6
MAX_CASES = 200
Tell = Callable[[float, str], None]


def _silent(share: float, words: str) -> None:
    pass


@dataclass(frozen=True)
class Explained:
    """`importances` are of vectors and windows, the weightiest first. `maps` are of pictures: float64 (cells, cells), the mean of what answers lose
    without each cell, by class answered, and over all under "all"; `means` float32 (channels,
    height, width) are those pictures' own. `cases` are single answers on `shown`, the rows they are of."""

    task: str
    model: str
    measure: str
    quality: float
    rows: int
    unit: str
    columns: tuple[str, ...]
    importances: list[Importance]
    maps: dict[str, np.ndarray]
    means: dict[str, np.ndarray]
    cases: list[Case]
    shown: Dataset


def explain_model(
    task: Task, splits: Splits, subject: Subject, *, count: int = _CASES, seed: int = 0, bounds: Bounds = Bounds(), tell: Tell = _silent
) -> Explained:
    """Of any model file, opened in a child under `bounds`; `count` answers one by one (at most MAX_CASES), the wrong ones first. Same files and seed,
    same values. Raises BadInput for a model that does not run on the task's rows."""
    with isolated(bounds) as models:
        output = answer(task, splits, subject, splits.test.inputs[:1], models).output

        def ask(rows: np.ndarray) -> np.ndarray:
            return respond(subject, rows, models)

        return explain_answers(task, splits, ask, output, subject.name, count=count, seed=seed, tell=tell)


def explain_answers(
    task: Task, splits: Splits, ask: Respond, output: OutputSpec, name: str, *, count: int = 0, seed: int = 0, tell: Tell = _silent
) -> Explained:
    """As explain_model, of whatever `ask` runs."""
    rows = splits.test
    outputs = ask(rows.inputs)
    found = score(outputs, rows, output, 0)
    shown = rows.select(_picked(outputs, output, rows, min(count, MAX_CASES)))
    tell(0.2, f"{name} as a whole")
    pictures = rows.inputs.ndim == 4
    maps, means = _maps(ask, splits, output, seed) if pictures else ({}, {})
    ranked = [] if pictures else importances(ask, rows, output, seed)
    tell(0.6, f"{len(shown)} single answers")
    single = cases(ask, shown, splits.train, output, seed)
    tell(1.0, "done")
    told = (found.measure, found.quality, len(rows), unit_of(output), rows.columns)
    return Explained(task.name, name, *told, ranked, maps, means, single, shown)


def _picked(outputs: np.ndarray, output: OutputSpec, rows: Dataset, count: int) -> np.ndarray:
    """Half of them the worst answers, the rest evenly from all others."""
    if isinstance(output, Regression):
        wrong = np.argsort(-np.abs(outputs.reshape(len(outputs), -1)[:, 0] - rows.labels), kind="stable")
    else:
        wrong = np.flatnonzero(answers_of(outputs, output) != rows.labels)
    worst = wrong[: (count + 1) // 2]
    rest = np.setdiff1d(np.arange(len(rows)), worst)
    left = min(count - len(worst), len(rest))
    return np.concatenate([worst, rest[np.linspace(0, len(rest) - 1, left).astype(int)] if left > 0 else rest[:0]])


def _maps(ask: Respond, splits: Splits, output: OutputSpec, seed: int) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    drawn = np.sort(np.random.default_rng(seed).permutation(len(splits.test))[:_MAP_ROWS])
    rows = splits.test.select(drawn)
    found = cases(ask, rows, splits.train, output, seed)
    groups = {"all": [*range(len(found))]}
    for name in splits.classes:
        groups[name] = [at for at, case in enumerate(found) if case.answer == name]
    chosen = {name: at for name, at in groups.items() if at}
    maps = {name: np.mean([found[i].weights for i in at], axis=0) for name, at in chosen.items()}
    return maps, {name: rows.inputs[at].mean(axis=0) for name, at in chosen.items()}
