"""Several models of this device that answer as one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

import numpy as np

from edge_agent.catalogue import ModelView, Prediction, Predictor
from edge_agent.errors import Reject
from edge_agent.inference.voting import Combine, Said
from edge_agent.ports import ActiveModel, Inference, Inferring, Tensors

PLATFORM = "ensemble"
T = TypeVar("T")


@dataclass(frozen=True)
class Member:
    model: Predictor
    weight: float


class Ensemble:
    """Implements catalogue.Predictor. Its version is those of its members. It is not ready until all of them are, and lost with any of them."""

    def __init__(self, name: str, members: Sequence[Member], combine: Combine) -> None:
        self._name = name
        self._members = list(members)
        self._combine = combine
        self._others = ThreadPoolExecutor(len(self._members), thread_name_prefix="ensemble")
        self._seen: tuple[list[ModelView], ModelView] | None = None

    @property
    def name(self) -> str:
        return self._name

    def view(self) -> ModelView | None:
        views = [member.model.view() for member in self._members]
        present = [view for view in views if view is not None]
        if len(present) < len(views):
            return None
        seen = self._seen
        if seen is None or any(old is not new for old, new in zip(seen[0], present, strict=True)):
            seen = self._seen = (present, _view(self._name, present))
        return seen[1]

    def predict(self, inputs: Tensors, *, timeout_s: float | None = None) -> Prediction:
        """All members at once; what the slowest takes is the latency. Raises what a member raises, or Reject (no-ensemble)."""
        first, others = self._ask(inputs, timeout_s, partial(self._members[0].model.predict, inputs, timeout_s=timeout_s))
        version = _version([first.version, *(other.version for other in others)])
        return Prediction(self._name, version, first.manifest, self._join(first, others), _slowest(first, others))

    def infer_with(self, host: Inferring, inputs: Tensors, timeout_s: float | None) -> Inference:
        """As `predict`, with `host` for the first member: the inference is that of its bundle, but for outputs and latency."""
        first, others = self._ask(inputs, timeout_s, partial(host.infer, inputs, timeout_s=timeout_s))
        return replace(first, outputs=self._join(first, others), latency_us=_slowest(first, others))

    def _ask(self, inputs: Tensors, timeout_s: float | None, first: Callable[[], T]) -> tuple[T, list[Prediction]]:
        """No member is still at it for a caller that is gone: what failed callers left behind would pile up."""
        asked = [self._others.submit(member.model.predict, inputs, timeout_s=timeout_s) for member in self._members[1:]]
        try:
            return first(), [waited.result() for waited in asked]
        finally:
            for waited in asked:
                waited.cancel()
            wait(asked)

    def _join(self, first: Prediction | Inference, others: Sequence[Prediction]) -> dict[str, np.ndarray]:
        told = zip(self._members, (first, *others), strict=True)
        return self._combine([Said(one.manifest, one.outputs, member.weight) for member, one in told])

    def close(self) -> None:
        self._others.shutdown()


class EnsembleHost:
    """Implements ports.Inferring: what a source's inputs go to when an ensemble shall answer them. `host` runs the first member, and what is recorded
    is recorded of its bundle."""

    def __init__(self, host: Inferring, ensemble: Ensemble) -> None:
        self._host = host
        self._ensemble = ensemble

    def active(self) -> ActiveModel | None:
        return self._host.active()

    def infer(self, inputs: Tensors, *, timeout_s: float | None = None) -> Inference:
        return self._ensemble.infer_with(self._host, inputs, timeout_s)


def _slowest(first: Prediction | Inference, others: Sequence[Prediction]) -> int:
    return max(one.latency_us for one in (first, *others))


def _view(name: str, members: Sequence[ModelView]) -> ModelView:
    """Raises Reject (no-ensemble) when they do not take the same inputs."""
    first = members[0]
    for other in members[1:]:
        if other.signature.inputs != first.signature.inputs:
            raise Reject(f"{other.name!r} does not take the inputs of {first.name!r}", code="no-ensemble")
    return ModelView(name, _version([view.version for view in members]), PLATFORM, first.signature, first.input)


def _version(versions: Sequence[str]) -> str:
    return "+".join(versions)
