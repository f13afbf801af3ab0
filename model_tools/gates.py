"""Whether a model may be released: each gate compares one measured number with the task's limit."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fleet_contract.job import Gate

if TYPE_CHECKING:
    from model_tools.task import Gates

_ROUNDING = 1e-9
"""0.9 - 0.88 is not quite 0.02: a difference at its limit passes."""


@dataclass(frozen=True)
class Scores:
    """Accuracies, 0..1, of the variants that devices prefer. Old is the task's own test data; new is held-out labels from the field, None
    where there are none; the champion's are None for a first model. `int8_drop` is what quantizing lost on the old."""

    old: float
    int8_drop: float
    new: float | None = None
    champion_old: float | None = None
    champion_new: float | None = None


def judge(limits: "Gates", scores: Scores) -> list[Gate]:
    """Every gate that these scores allow to be judged, passed or not."""
    judged = [
        _at_least("accuracy", scores.old, limits.min_accuracy, "accuracy on the task's test data"),
        _at_most("int8-drop", scores.int8_drop, limits.max_int8_drop, "accuracy lost by quantizing"),
    ]
    if scores.champion_old is not None:
        loss = scores.champion_old - scores.old
        judged.append(_at_most("loss-on-old", loss, limits.max_loss_on_old, "accuracy lost against the champion on the task's test data"))
    if scores.champion_new is not None and scores.new is not None:
        gain = scores.new - scores.champion_new
        judged.append(_at_least("gain-on-new", gain, limits.min_gain_on_new, "accuracy won over the champion on held-out new labels"))
    return judged


def reason(judged: Sequence[Gate]) -> str:
    """One sentence: why the model is accepted or refused."""
    failed = [gate.rule for gate in judged if not gate.passed]
    return "; ".join(failed) if failed else f"all {len(judged)} gates passed"


def _at_least(name: str, value: float, limit: float, what: str) -> Gate:
    passed = value >= limit - _ROUNDING
    return Gate(name, value, limit, passed, f"{what} is {value:.3f}, at least {limit:.3f} is wanted")


def _at_most(name: str, value: float, limit: float, what: str) -> Gate:
    passed = value <= limit + _ROUNDING
    return Gate(name, value, limit, passed, f"{what} is {value:.3f}, at most {limit:.3f} is allowed")
