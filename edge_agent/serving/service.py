"""What a local application may ask, whatever the protocol: one place that finds, checks, calls and counts."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from edge_agent.catalogue import Catalogue, ModelView, Prediction, Predictor
from edge_agent.errors import AgentError, Reject, Retry
from edge_agent.monitor.served import Served, rows_of
from edge_agent.monitor.tray import Tray
from edge_agent.ports import Clock, Tensors
from edge_agent.serving.refusals import Refusal, Refused, refusal_of
from edge_agent.serving.requests import Checkers, GivenTensor
from edge_agent.serving.tally import Tally
from fleet_contract.messages import Follow


@dataclass(frozen=True)
class Call:
    """One request for inference. `version` None: whichever there is; no `outputs`: all of them. `id`: the caller's name for it; `follow`: the trace
    that its record belongs to."""

    model: str
    version: str | None
    inputs: Sequence[GivenTensor]
    outputs: Iterable[str] = ()
    timeout_s: float | None = None
    id: str = ""
    follow: Follow | None = None


@dataclass(frozen=True)
class Answered:
    """`outputs` are the names of those to tell of."""

    prediction: Prediction
    inputs: Tensors
    outputs: tuple[str, ...]


class Service:
    """For any number of threads."""

    def __init__(self, catalogue: Catalogue, clock: Clock, tally: Tally, recorded: Mapping[str, Tray] = {}) -> None:
        """`recorded`: whereto the requests of a model go, by its name."""
        self._catalogue, self._clock, self._tally = catalogue, clock, tally
        self._recorded = recorded
        self._checkers = Checkers()

    def names(self) -> list[str]:
        return self._catalogue.names()

    def is_ready(self) -> bool:
        """Every model of this device has a bundle, and there is one."""
        names = self._catalogue.names()
        return bool(names) and all(self.is_model_ready(name) for name in names)

    def is_model_ready(self, name: str, version: str | None = None) -> bool:
        """Raises Refused (unknown-model) for one that this device does not know."""
        predictor = self._predictor(name)
        try:
            view = predictor.view()
        except Reject:  # an ensemble whose members do not fit together
            return False
        return view is not None and version in (None, view.version)

    def view(self, name: str, version: str | None = None) -> ModelView:
        """Raises Refused (unknown-model, no-model), or what the model is refused with."""
        return _view(self._predictor(name), version)

    def infer(self, call: Call) -> Answered:
        """Raises Refused, and as ports.Host.infer does."""
        began_s = self._clock.monotonic_s()
        predictor = self._predictor(call.model)
        tray = self._recorded.get(call.model)
        view, inputs = None, {}
        try:
            view = _view(predictor, call.version)
            checker = self._checkers.of(view)
            outputs = checker.outputs(call.outputs)
            inputs = checker.read(call.inputs)
            prediction = predictor.predict(inputs, timeout_s=call.timeout_s)
            outputs = _still(call, prediction, outputs)
        except AgentError as error:
            if tray is not None:
                tray.refuse(error.code, len(rows_of(inputs, view.input)) if view and inputs else 1)
            raise
        if tray is not None and prediction.inference is not None:
            tray.put(Served(call.id, began_s, inputs, prediction.inference, call.follow))
        self._tally.answered(call.model, self._clock.monotonic_s() - began_s)
        return Answered(prediction, inputs, outputs)

    def refuse(self, error: AgentError, model: str = "") -> Refusal:
        """What to tell the caller whose request met `error`; counted once, under the model's name if it is one of this device."""
        known = model if self._catalogue.find(model) is not None else ""
        self._tally.refused(known, error.code)
        return refusal_of(error)

    def _predictor(self, name: str) -> Predictor:
        predictor = self._catalogue.find(name)
        if predictor is None:
            raise Refused(f"this device knows no model {name[:80]!r}", code="unknown-model")
        return predictor


def _view(predictor: Predictor, version: str | None) -> ModelView:
    view = predictor.view()
    if view is None:
        raise Refused(f"model {predictor.name!r} has no bundle yet", code="no-model")
    if version not in (None, view.version):
        raise Refused(f"model {view.name!r} has version {view.version!r}, not {version[:80]!r}", code="unknown-model")
    return view


def _still(call: Call, prediction: Prediction, outputs: tuple[str, ...]) -> tuple[str, ...]:
    """Another bundle may have come between the look at the model and its answer. Raises Retry (model-swapped) where it is not what was asked for."""
    if call.version not in (None, prediction.version):
        raise Retry(f"model {call.model!r} has version {prediction.version!r} now", code="model-swapped")
    if {*outputs} <= prediction.outputs.keys():
        return outputs
    if call.outputs:
        raise Retry(f"model {call.model!r} gives {', '.join(prediction.outputs)} now", code="model-swapped")
    return tuple(prediction.outputs)
