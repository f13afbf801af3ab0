"""One number a row that says how strongly a model gives an answer."""

import numpy as np

from fleet_contract.outputs import Anomaly, Classification, OutputSpec, Regression
from model_tools.compare.measuring import estimates, words
from model_tools.compare.reliability import probabilities
from model_tools.data.dataset import Dataset

_LEAST = 1e-6


def worth(outputs: np.ndarray, output: OutputSpec, answers: np.ndarray) -> np.ndarray:
    """float64 (rows,): the log-odds of the class `answers` (rows,), in nats; the estimate, in its unit; or the score."""
    if isinstance(output, Regression):
        return estimates(outputs, output)
    if isinstance(output, Anomaly):
        return outputs.reshape(len(outputs), -1)[:, 0].astype(np.float64)
    if output.activation != "softmax":
        own = np.clip(probabilities(outputs, output)[np.arange(len(outputs)), answers], _LEAST, 1 - _LEAST)
        return np.log(own / (1 - own))
    logits = outputs.astype(np.float64) / output.temperature
    own = logits[np.arange(len(logits)), answers]
    others = np.where(np.arange(logits.shape[1]) == answers[:, None], -np.inf, logits)
    top = others.max(axis=1)
    return own - top - np.log(np.exp(others - top[:, None]).sum(axis=1))


def unit_of(output: OutputSpec) -> str:
    """What `worth` is counted in."""
    match output:
        case Classification():
            return "log-odds of the answer"
        case Regression():
            return output.units[0] or "the target's unit"
        case _:
            return "score"


def answers_of(outputs: np.ndarray, output: OutputSpec) -> np.ndarray:
    """int64 (rows,): the class answered; zeros where answers are no classes."""
    return np.zeros(len(outputs), np.int64) if isinstance(output, Regression) else words(outputs, output)


def spoken(outputs: np.ndarray, output: OutputSpec, rows: Dataset) -> list[tuple[str, str]]:
    """Of each row what it is and what the model says."""
    if isinstance(output, Regression):
        return [(f"{is_:.4g}", f"{said:.4g}") for is_, said in zip(rows.labels, estimates(outputs, output), strict=True)]
    return [(rows.classes[is_], rows.classes[said]) for is_, said in zip(rows.labels, words(outputs, output), strict=True)]
