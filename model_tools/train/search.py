"""Hyperparameters found by trial: tree-structured Parzen estimators (Bergstra et al. 2011), seeded and one after the other, so that the same task finds
the same ones."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from model_tools.errors import BadTask
from model_tools.sections import Search
from model_tools.train.plan import Plan

if TYPE_CHECKING:
    from optuna.trial import Trial as Draw


@dataclass(frozen=True)
class Trial:
    """`cost` of the validation rows: the less the better."""

    learning_rate: float
    width: int
    cost: float


def search(
    wish: Search, usual: Plan, attempt: Callable[[Plan], float], progress: Callable[[float, str], None]
) -> tuple[Plan, Sequence[Trial]]:
    """The plan that cost least of `wish.trials`, the usual one being the first of them, and what all cost. `attempt` trains by a plan."""
    import optuna

    low, high = wish.learning_rate
    if not 0 < low <= high:
        raise BadTask("search.learning_rate needs 0 < low <= high", field="search.learning_rate")
    trials: list[Trial] = []

    def objective(draw: "Draw") -> float:
        rate = draw.suggest_float("learning_rate", low, high, log=True)
        width = draw.suggest_categorical("width", widths(wish, usual))
        cost = attempt(replace(usual, learning_rate=rate, width=width))
        trials.append(Trial(rate, width, cost))
        progress(len(trials) / wish.trials, f"trial {len(trials)} of {wish.trials}: rate {rate:.2g}, width {width}, cost {cost:.4f}")
        return cost

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=usual.seed))
    if low <= usual.learning_rate <= high and usual.width in widths(wish, usual):
        study.enqueue_trial({"learning_rate": usual.learning_rate, "width": usual.width})
    study.optimize(objective, n_trials=wish.trials)
    best = min(trials, key=lambda trial: trial.cost)
    return replace(usual, learning_rate=best.learning_rate, width=best.width), trials


def widths(wish: Search, usual: Plan) -> list[int]:
    """Those that the task names; else half, once and twice the usual."""
    return wish.width or [max(2, usual.width // 2), usual.width, 2 * usual.width]
