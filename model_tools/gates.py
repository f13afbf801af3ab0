"""Whether a model may be released: each gate compares one measured number with the task's limit."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fleet_contract.job import Gate

if TYPE_CHECKING:
    from model_tools.evaluate.scoring import Measure
    from model_tools.task import Gates

_ROUNDING = 1e-9
"""0.9 - 0.88 is not quite 0.02: a difference at its limit passes."""
_BETTER_THAN_GUESSING = 1.25
_USEFUL: "Mapping[Measure, float]" = {"r2": 0.1, "auc": 0.6, "passed": 0.5}
"""R² of 0 is what the mean of all targets has, an area of 0.5 what chance has."""
_WORDS: "Mapping[Measure, str]" = {
    "accuracy": "accuracy",
    "r2": "R²",
    "auc": "area under the ROC curve",
    "passed": "share of normal rows that pass",
}
_AT_THRESHOLD: "Mapping[Measure, str]" = dict.fromkeys(("auc", "passed"), "mean share of normal rows and of anomalies told rightly")
"""What a challenger is compared with its champion by."""
_FLIPPED_BY_QUANTIZING = 1
_FLIPPED_BY_RETRAINING = 2
"""So many rows answered otherwise are chance, whatever share of a small test they are: of 18 rows one is 0.056."""


@dataclass(frozen=True)
class Scores:
    """Qualities (Evaluation.quality, by `measure`) of the variants that devices prefer. Old is the task's own test data, `rows` of them; new is held-out
    labels from the field, None where there are none; the champion's are None for a first model. `recalls` are the shares of each class answered
    rightly and `int8_drop` what quantizing lost, both on the old. Of anomalies `new` and the champion's are means of such shares: a threshold
    can be wrong where the order of the scores is right."""

    old: float
    int8_drop: float
    rows: int
    recalls: Sequence[float]
    measure: "Measure" = "accuracy"
    new: float | None = None
    champion_old: float | None = None
    champion_new: float | None = None

    @property
    def told_rightly(self) -> float:
        """On the old, as `champion_old` is."""
        return sum(self.recalls) / len(self.recalls) if self.measure in _AT_THRESHOLD else self.old


def judge(limits: "Gates", scores: Scores) -> list[Gate]:
    """Every gate that these scores allow to be judged, passed or not."""
    what = _WORDS[scores.measure]
    most_lost = max(limits.max_int8_drop, _FLIPPED_BY_QUANTIZING / scores.rows)
    judged = [_useful(limits, scores), _at_most("int8-drop", scores.int8_drop, most_lost, f"{what} lost by quantizing")]
    compared = _AT_THRESHOLD.get(scores.measure, what)
    if scores.champion_old is not None:
        loss, most = scores.champion_old - scores.told_rightly, max(limits.max_loss_on_old, _FLIPPED_BY_RETRAINING / scores.rows)
        judged.append(_at_most("loss-on-old", loss, most, f"{compared} lost against the champion on the task's test data"))
    if scores.champion_new is not None and scores.new is not None:
        gain, least = scores.new - scores.champion_new, _gain_wanted(limits.min_gain_on_new, scores.champion_new)
        judged.append(_at_least("gain-on-new", gain, least, f"{compared} won over the champion on held-out new labels"))
    return judged


def _useful(limits: "Gates", scores: Scores) -> Gate:
    wanted = {"accuracy": limits.min_accuracy, "r2": limits.min_r2, "auc": limits.min_auc, "passed": None}[scores.measure]
    if scores.measure != "accuracy":
        return _at_least(scores.measure, scores.old, _USEFUL[scores.measure] if wanted is None else wanted, _WORDS[scores.measure])
    if wanted is not None:
        return _at_least("accuracy", scores.old, wanted, "accuracy on the task's test data")
    # of rows that are nearly all of one class, always saying that one is accurate, and useless
    recall = sum(scores.recalls) / len(scores.recalls)
    return _at_least("accuracy", recall, _BETTER_THAN_GUESSING / len(scores.recalls), "mean share of each class answered rightly")


def _gain_wanted(least: float, champion: float) -> float:
    """No more than half of what the champion leaves to be won: a champion hardly harmed by the change
    need only be matched, as the challenger knows the new state of the world."""
    return min(least, (1 - champion) / 2)


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
