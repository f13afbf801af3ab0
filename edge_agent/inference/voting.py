"""Several models' outputs as one, in the terms of the first one's manifest. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from edge_agent.errors import Reject
from edge_agent.ports import Tensors
from fleet_contract.answers.classes import activate, probabilities_of
from fleet_contract.manifest import Manifest
from fleet_contract.outputs import Anomaly, Classification, OutputSpec, Raw, Regression, Threshold

_LEAST = 1e-7
Combine = Callable[[Sequence["Said"]], dict[str, "np.ndarray"]]


@dataclass(frozen=True)
class Said:
    """What one model answered."""

    manifest: Manifest
    outputs: Tensors
    weight: float


def average(said: Sequence[Said]) -> dict[str, np.ndarray]:
    """The weighted mean: of calibrated probabilities, not of logits; of values in their units; of scores. Outputs that no mean is of raise
    Reject (no-ensemble), as members do that mean different things."""
    outputs = _alike(said)
    match outputs[0]:
        case Classification() | Threshold() as first:
            shares = _mean(said, [_probabilities(one) for one in said])
            return {first.tensor: _logits(first, shares)}
        case Regression() as first:
            values = _mean(said, [_scale(one) * one.outputs[one.manifest.output.tensor] + _offset(one) for one in said])
            return {first.tensor: ((values - _offset(said[0])) / _scale(said[0])).astype(np.float32)}
        case Anomaly() as first:
            return {first.tensor: _mean(said, [one.outputs[one.manifest.output.tensor] for one in said])}
        case Raw() as first if all(tensor.dtype.startswith("float") for tensor in first.tensors):
            return {tensor.name: _mean(said, [one.outputs[tensor.name] for one in said]).astype(tensor.dtype) for tensor in first.tensors}
    raise Reject("there is no mean of such outputs", code="no-ensemble")


def vote(said: Sequence[Said]) -> dict[str, np.ndarray]:
    """Each model gives its weight to the class that it holds for the likeliest; the shares of the weight are the answer's probabilities. Raises Reject
    (no-ensemble) where there are no classes."""
    first = _alike(said)[0]
    if not isinstance(first, Classification | Threshold):
        raise Reject("only classes can be voted on", code="no-ensemble")
    ballots = [_ballot(one) for one in said]
    return {first.tensor: _logits(first, _mean(said, ballots))}


RULES: dict[str, Combine] = {"average": average, "vote": vote}


def _alike(said: Sequence[Said]) -> list[OutputSpec]:
    outputs = [one.manifest.output for one in said]
    if any(one.manifest.states for one in said):
        raise Reject("a member remembers what it saw before", code="no-ensemble")
    if len({_meaning(output) for output in outputs}) != 1:
        raise Reject("the members of the ensemble do not mean the same by their outputs", code="no-ensemble")
    return outputs


def _meaning(output: OutputSpec) -> tuple:
    match output:
        case Classification():
            return ("classification", *output.classes)
        case Threshold():
            return ("threshold", *output.labels)
        case Regression():
            return ("regression", *zip(output.targets, output.units, strict=True))
        case Anomaly():
            return ("anomaly", output.score)
        case Raw():
            return ("raw", *((tensor.name, tensor.dtype, tuple(tensor.shape)) for tensor in output.tensors))
    return ("none", id(output))


def _probabilities(one: Said) -> np.ndarray:
    output = one.manifest.output
    if isinstance(output, Classification):
        return probabilities_of(output, one.outputs[output.tensor])
    return activate(one.outputs[output.tensor] / np.float32(output.temperature), output.activation)


def _ballot(one: Said) -> np.ndarray:
    shares = _probabilities(one)
    if isinstance(one.manifest.output, Threshold):
        return (shares >= one.manifest.output.threshold).astype(np.float32)
    return np.eye(shares.shape[1], dtype=np.float32)[shares.argmax(axis=1)]


def _logits(output: Classification | Threshold, shares: np.ndarray) -> np.ndarray:
    """What the output's own activation turns into these shares again."""
    if output.activation == "none":
        return shares * np.float32(output.temperature)
    p = np.clip(shares, _LEAST, 1 - _LEAST)
    logits = np.log(p) if output.activation == "softmax" else np.log(p / (1 - p))
    return (logits * output.temperature).astype(np.float32)


def _mean(said: Sequence[Said], arrays: Sequence[np.ndarray]) -> np.ndarray:
    """float32. Raises Reject (no-ensemble) when their shapes differ."""
    if len({array.shape for array in arrays}) != 1:
        raise Reject("the members' answers have different shapes", code="no-ensemble")
    weights = np.array([one.weight for one in said], np.float64)
    return np.tensordot(weights / weights.sum(), np.stack(arrays).astype(np.float64), axes=1).astype(np.float32)


def _scale(one: Said) -> np.ndarray:
    return np.array(one.manifest.output.scale, np.float64)


def _offset(one: Said) -> np.ndarray:
    return np.array(one.manifest.output.offset, np.float64)
