"""Several models of this device that answer as one."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from edge_agent.catalogue import ModelView, Prediction, Predictor
from edge_agent.errors import Reject
from edge_agent.inference.voting import Combine, Said
from edge_agent.ports import Tensors

PLATFORM = "ensemble"


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
        first, *others = self._members
        asked = [self._others.submit(member.model.predict, inputs, timeout_s=timeout_s) for member in others]
        found = [first.model.predict(inputs, timeout_s=timeout_s), *(waited.result() for waited in asked)]
        said = [Said(one.manifest, one.outputs, member.weight) for member, one in zip(self._members, found, strict=True)]
        version = _version([one.version for one in found])
        return Prediction(self._name, version, found[0].manifest, self._combine(said), max(one.latency_us for one in found))

    def close(self) -> None:
        self._others.shutdown()


def _view(name: str, members: Sequence[ModelView]) -> ModelView:
    """Raises Reject (no-ensemble) when they do not take the same inputs."""
    first = members[0]
    for other in members[1:]:
        if other.signature.inputs != first.signature.inputs:
            raise Reject(f"{other.name!r} does not take the inputs of {first.name!r}", code="no-ensemble")
    return ModelView(name, _version([view.version for view in members]), PLATFORM, first.signature, first.input)


def _version(versions: Sequence[str]) -> str:
    return "+".join(versions)
