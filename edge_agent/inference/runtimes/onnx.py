"""ONNX Runtime. A model that refers to data outside itself or to operators of unknown domains does not load."""

from collections.abc import Mapping
from contextlib import suppress

import numpy as np
import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as engine

from edge_agent.errors import Reject
from edge_agent.inference.plan import GraphSignature, GraphTensor, Plan
from edge_agent.inference.runtimes import warming
from edge_agent.inference.runtimes.binding import Binding
from firmware_profiles.catalog import Backend

_SETTINGS = ("session.", "ep.", "optimization.")
"""Options of a backend that begin so are the session's; the others are its provider's."""
_NUMBERS = {"float": "float32", "double": "float64"}
_ASSIGNMENT = "session.record_ep_graph_assignment_info"
_QUIET = 4
_FAILURES = (
    engine.Fail,
    engine.EPFail,
    engine.InvalidArgument,
    engine.NoSuchFile,
    engine.NotFound,
    engine.NotImplemented,
    engine.RuntimeException,
)
"""They have no base of their own."""


class OnnxRuntime:
    """Implements port.Runtime."""

    def __init__(self, backend: Backend) -> None:
        """Raises Reject (no-variant)."""
        self._session: onnxruntime.InferenceSession | None = None
        self._binding: Binding | None = None
        self._outputs: list[str] = []
        onnxruntime.set_default_logger_severity(_QUIET)
        self._devices = [] if backend.library is None else _registered(backend, backend.library)
        if not self._devices and backend.provider not in onnxruntime.get_available_providers():
            raise Reject(f"this onnxruntime has no {backend.provider}", code="no-variant")
        with suppress(*_FAILURES):  # what a provider makes of the real model is for `load` to say
            self._opened(warming.ONNX, backend.provider, backend.options, threads=1)

    def load(self, model: bytes, plan: Plan) -> GraphSignature:
        session = self._opened(model, plan.provider, plan.options, plan.threads)
        takers = _takers(session)
        if takers and plan.provider not in takers:  # the engine would go on with the CPU, and be measured as what it is not
            raise Reject(f"{plan.provider} takes none of the graph's operators", code="no-variant")
        session._model_bytes = None  # else it keeps the file too, for a change of providers that nobody asks for
        signature = GraphSignature(_told(session.get_inputs()), _told(session.get_outputs()))
        self._binding = Binding(plan, signature, text=True)
        self._outputs = [bound.graph for bound in plan.outputs]
        self._session = session
        return signature

    def infer(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        if self._session is None or self._binding is None:
            raise Reject("no model is loaded", code="bundle")
        return self._binding.infer(inputs, self._run)

    def unload(self) -> None:
        self._session = self._binding = None

    def _run(self, inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
        """Past `InferenceSession.run`, which would fall back to another provider than was measured, and looks at names that `Binding` has seen to."""
        return self._session._sess.run(self._outputs, inputs, None)

    def _opened(self, model: bytes, provider: str, said: Mapping[str, str], threads: int) -> onnxruntime.InferenceSession:
        settings = {name: value for name, value in said.items() if name.startswith(_SETTINGS)}
        given = {name: value for name, value in said.items() if name not in settings}
        options = _options(threads, {_ASSIGNMENT: "1", **settings})
        if self._devices:
            options.add_provider_for_devices(self._devices, given)
            return onnxruntime.InferenceSession(model, options)
        return onnxruntime.InferenceSession(model, options, providers=[(provider, given)])


def _options(threads: int, settings: Mapping[str, str]) -> onnxruntime.SessionOptions:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = _QUIET
    spinning = {"session.intra_op.allow_spinning": "0", "session.inter_op.allow_spinning": "0"}
    for name, value in {**spinning, **settings}.items():
        options.add_session_config_entry(name, value)
    return options


def _registered(backend: Backend, library: str) -> list[onnxruntime.OrtEpDevice]:
    """The devices of a plugin provider, those of the backend's kind where it tells any. Raises Reject (no-variant)."""
    try:
        onnxruntime.register_execution_provider_library(library, library)
    except _FAILURES as error:
        raise Reject(f"{library} is no plugin provider: {error}", code="no-variant") from error
    devices = [device for device in onnxruntime.get_ep_devices() if device.ep_name == backend.provider]
    if not devices:
        raise Reject(f"{backend.provider} finds no device here", code="no-variant")
    return [device for device in devices if device.device.type.name.lower() == backend.kind] or devices


def _takers(session: onnxruntime.InferenceSession) -> set[str]:
    """The providers that run some of the graph, none where nothing is left to run. Engines before 1.24, which vendors still build upon, tell only
    which were opened."""
    if not hasattr(session, "get_provider_graph_assignment_info"):
        return {*session.get_providers()}
    return {part.ep_name for part in session.get_provider_graph_assignment_info()}


def _told(nodes) -> list[GraphTensor]:
    return [
        GraphTensor(node.name, _type(node.type), [axis if isinstance(axis, int) else -1 for axis in node.shape or ()]) for node in nodes
    ]


def _type(told: str) -> str:
    """tensor(float) is float32; what is no tensor keeps its name."""
    name = told.removeprefix("tensor(").removesuffix(")") if told.startswith("tensor(") else told
    return _NUMBERS.get(name, name)
