"""Two models on the same held-out rows."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from fleet_contract.outputs import OutputSpec, Regression
from model_tools.adopt.isolation import Bounds, Isolated, isolated
from model_tools.compare.layers import Layer, layer_ratios
from model_tools.compare.measuring import Measured, measure, rightness, weigher
from model_tools.compare.slices import LEAST_ROWS, Slice, resampling_units, slices
from model_tools.compare.statistics import Interval, Test, bootstrap, holm, mcnemar, paired_shares, sign_flips, signed_rank
from model_tools.compare.subjects import Answered, Subject, answer
from model_tools.data.dataset import Dataset, Splits
from model_tools.errors import BadInput
from model_tools.evaluate.scoring import Comparison, Measure, compare
from model_tools.evaluate.timing import Timing, time_models
from model_tools.model_files import ModelFile
from model_tools.sections import WindowShape
from model_tools.task import Task

_SURE = 0.05
_COPY_NOISE = 0.1
"""10 dB."""
_SLOWER = 1.1
"""Times taken in turns on a busy machine still differ by a few in a hundred."""
_UNLIKE = Comparison(math.nan, math.nan, math.nan)


@dataclass(frozen=True)
class PartChange:
    """Of one slice or class: mean rightness (Measured.right) of both, and the chance of such a difference between equally good models,
    corrected for how many slices were looked at (Holm)."""

    by: str
    part: str
    rows: int
    one: float
    other: float
    chance: float

    @property
    def change(self) -> float:
        return self.other - self.one


@dataclass(frozen=True)
class Compared:
    """`change` is the quality of `other` less that of `one`, on the same rows; `chance` that of seeing so uneven answers from equally good models, by
    `test`. `between` is agreement and noise of the outputs. `timings` is empty where nothing was timed; `layers` where the graphs have none
    in common."""

    task: str
    data_sha256: str
    rows: int
    units: int
    one: Measured
    other: Measured
    between: Comparison
    change: Interval
    chance: float
    test: Test
    parts: list[PartChange]
    layers: list[Layer]
    timings: dict[str, Timing]
    warnings: list[str]


def compare_models(
    task: Task,
    splits: Splits,
    one: Subject,
    other: Subject,
    *,
    seed: int = 0,
    timed: bool = True,
    bounds: Bounds = Bounds(),
    tell: Callable[[float, str], None] = lambda share, words: None,
) -> Compared:
    """Of the task's test rows. Both models are opened in a child under `bounds`; but for `timings` the same files give the same values.
    A file's answers are read as `read_alike` says. Raises BadInput for a model that does not run on these rows or answers otherwise than the task asks."""
    rows = splits.test
    if not len(rows):
        raise BadInput("the task has no test rows", field="split.test", limit=1)
    with isolated(bounds) as models:
        tell(0.1, f"{one.name} on {len(rows)} rows")
        first = answer(task, splits, one, rows.inputs, models)
        tell(0.4, f"{other.name} on {len(rows)} rows")
        second = read_alike(first, answer(task, splits, other, rows.inputs, models))
        tell(0.6, "layer by layer")
        layers, warnings = _layers(one, other, rows, models)
    if timed:
        tell(0.7, "latency, in turns")
    timings = _time(one, other, bounds) if timed else {}
    tell(0.9, "statistics")
    found = judge_answers(task, splits, first, second, seed)
    tell(1.0, "done")
    return replace(found, layers=layers, timings=timings, warnings=[*warnings, *found.warnings, *_slower(timings)])


def evaluate_models(task: Task, splits: Splits, subjects: Sequence[Subject], *, seed: int = 0, bounds: Bounds = Bounds()) -> list[Measured]:
    """Each on its own, on the task's test rows; files are read as compare_models reads them, the first being A. Raises as compare_models."""
    units = resampling_units(splits.test, _stretch(task))
    with isolated(bounds) as models:
        told = [answer(task, splits, subject, splits.test.inputs, models) for subject in subjects]
    return [measure(read_alike(told[0], one), splits.test, units, seed) for one in told]


def read_alike(first: Answered, second: Answered) -> Answered:
    """A file that answers nearly as the first does is a copy of it in another precision: a bundle will say once how both are read, temperature and
    threshold included."""
    if second.subject.manifest is not None or first.outputs.shape != second.outputs.shape:
        return second
    noise = float(np.square(first.outputs - second.outputs, dtype=np.float64).mean())
    is_copy = noise <= _COPY_NOISE * float(np.square(first.outputs, dtype=np.float64).mean())
    return replace(second, output=first.output) if is_copy and type(first.output) is type(second.output) else second


def judge_answers(task: Task, splits: Splits, first: Answered, second: Answered, seed: int = 0) -> Compared:
    """Of what both said of the task's test rows, whatever ran them: without layers and timings."""
    rows, units = splits.test, resampling_units(splits.test, _stretch(task))
    a, b = measure(first, rows, units, seed), measure(second, rows, units, seed)
    test = _test_for(first.output, units)
    same = first.outputs.shape == second.outputs.shape
    return Compared(
        task=task.name,
        data_sha256=splits.sha256,
        rows=len(rows),
        units=int(units.max()) + 1,
        one=a,
        other=b,
        between=compare(a.evaluation, b.evaluation, first.output) if same else _UNLIKE,
        change=_change(first, second, a.evaluation.measure, rows, units, seed),
        chance=_chance(test, a.right, b.right, units),
        test=test,
        parts=_parts(splits, a, b, units, test),
        layers=[],
        timings={},
        warnings=_warnings(rows, units, a, b) + ([] if same else ["the outputs differ in shape: noise and agreement are not told"]),
    )


def _layers(one: Subject, other: Subject, rows: Dataset, models: Isolated) -> tuple[list[Layer], list[str]]:
    try:
        layers = models.ask(f"{one.name}+{other.name}", layer_ratios, one, other, rows.inputs)
    except BadInput as error:
        return [], [f"the layers were not compared: {error}"]
    return layers, [] if layers else ["the models have no layers of the same names: nothing was compared layer by layer"]


def _time(one: Subject, other: Subject, bounds: Bounds) -> dict[str, Timing]:
    """Of one row at a time, as devices ask."""
    return time_models({"A": ModelFile(one.runtime, one.data), "B": ModelFile(other.runtime, other.data)}, bounds=bounds)


def _slower(timings: dict[str, Timing]) -> list[str]:
    if not timings or timings["B"].p50_ms <= _SLOWER * timings["A"].p50_ms:
        return []
    return [f"B is slower than A: {timings['B'].p50_ms:.3g} ms against {timings['A'].p50_ms:.3g} ms"]


def _change(first: Answered, second: Answered, kind: Measure, rows: Dataset, units: np.ndarray, seed: int) -> Interval:
    if kind in ("accuracy", "passed") and units.max() + 1 == len(units):
        counted = rows.labels == 0 if kind == "passed" else np.ones(len(rows), bool)
        one, other = (rightness(told.outputs, rows, told.output)[counted] > 0 for told in (first, second))
        return paired_shares(one, other)
    before, after = (weigher(kind, told.outputs, rows, told.output) for told in (first, second))
    return bootstrap(lambda weights: after(weights) - before(weights), units, seed, slow=kind == "auc")


def _test_for(output: OutputSpec, units: np.ndarray) -> Test:
    if units.max() + 1 < len(units):
        return "sign flips of whole groups"
    return "Wilcoxon's signed-rank test" if isinstance(output, Regression) else "McNemar's exact test"


def _chance(test: Test, one: np.ndarray, other: np.ndarray, units: np.ndarray) -> float:
    match test:
        case "McNemar's exact test":
            return mcnemar(one > 0, other > 0)
        case "Wilcoxon's signed-rank test":
            return signed_rank(one, other)
        case _:
            return sign_flips(one, other, units, 0)


def _parts(splits: Splits, one: Measured, other: Measured, units: np.ndarray, test: Test) -> list[PartChange]:
    rows = splits.test
    classes = [Slice("class", name, np.flatnonzero(rows.labels == at)) for at, name in enumerate(rows.classes)]
    found = [part for part in [*classes, *slices(splits, rows)] if len(part.rows)]
    chances = holm([_chance(test, one.right[part.rows], other.right[part.rows], units[part.rows]) for part in found])
    return [
        PartChange(p.by, p.part, len(p.rows), float(one.right[p.rows].mean()), float(other.right[p.rows].mean()), chance)
        for p, chance in zip(found, chances, strict=True)
    ]


def _stretch(task: Task) -> int:
    """So many windows of one stream share samples."""
    if not isinstance(task.input, WindowShape):
        return 1
    return math.ceil(task.input.length / (task.input.stride or task.input.length))


def _warnings(rows: Dataset, units: np.ndarray, one: Measured, other: Measured) -> list[str]:
    told = []
    if len(rows) < 5 * LEAST_ROWS:
        told.append(f"{len(rows)} test rows tell little: the intervals are wide")
    if units.max() + 1 < len(units):
        told.append(f"rows are not independent: intervals are over {int(units.max()) + 1} groups or stretches of rows")
    for subject in (one, other):
        if not np.isfinite(subject.evaluation.outputs).all():
            told.append(f"{subject.name} answers with values that are not finite")
    return told


def worst(parts: list[PartChange]) -> PartChange | None:
    """The part that lost most; None where none has LEAST_ROWS rows."""
    counted = [part for part in parts if part.rows >= LEAST_ROWS]
    return min(counted, key=lambda part: (part.change, part.by, part.part), default=None)


def surely_worse(parts: list[PartChange]) -> list[PartChange]:
    """Those whose loss is not chance, at 5 % over all."""
    return [part for part in parts if part.change < 0 and part.chance < _SURE]
