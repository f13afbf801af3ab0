"""LiteRT's interpreter: on the CPU, or through an external delegate. tflite_runtime takes its place on boards that the newer package is not made for."""

import ctypes
from collections.abc import Mapping

import numpy as np

from edge_agent.errors import Reject
from edge_agent.inference.plan import GraphSignature, GraphTensor, Plan
from edge_agent.inference.runtimes import warming
from edge_agent.inference.runtimes.binding import Binding
from firmware_profiles.catalog import Backend
from fleet_contract.tensors import STRING

try:
    from ai_edge_litert import interpreter as engine
except ImportError:
    from tflite_runtime import interpreter as engine

_ENTRY = "tflite_plugin_create_delegate"
"""Of an external delegate (tensorflow/lite/delegates/external)."""


class LiteRtRuntime:
    """Implements port.Runtime. A graph's tensor goes by its name in the file's only signature, where there is one, or by its own."""

    def __init__(self, backend: Backend) -> None:
        """Raises Reject (no-variant)."""
        self._interpreter: engine.Interpreter | None = None
        self._binding: Binding | None = None
        self._inputs: dict[str, int] = {}
        self._outputs: list[int] = []
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._delegates = [] if backend.library is None else [_delegate(backend.library, backend.options)]
        engine.Interpreter(model_content=warming.TFLITE, num_threads=1).allocate_tensors()

    def load(self, model: bytes, plan: Plan) -> GraphSignature:
        interpreter = engine.Interpreter(model_content=model, num_threads=plan.threads, experimental_delegates=self._delegates)
        if self._delegates and _nodes(interpreter) == _nodes(engine.Interpreter(model_content=model, num_threads=1)):
            raise Reject("the delegate takes none of the graph's operators", code="no-variant")
        inputs, outputs = named(interpreter)
        signature = signature_of(inputs, outputs)
        self._binding = Binding(plan, signature)
        interpreter.allocate_tensors()  # operators and memory that are not there are told now
        self._inputs = {name: told["index"] for name, told in inputs.items()}
        self._outputs = [outputs[bound.graph]["index"] for bound in plan.outputs]
        self._shapes = {name: tuple(told["shape"].tolist()) for name, told in inputs.items()}
        self._interpreter = interpreter
        return signature

    def infer(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        if self._interpreter is None or self._binding is None:
            raise Reject("no model is loaded", code="bundle")
        return self._binding.infer(inputs, self._run)

    def unload(self) -> None:
        self._interpreter = self._binding = None

    def _run(self, inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
        shapes = {name: values.shape for name, values in inputs.items()}
        if shapes != self._shapes:
            self._resize(shapes)
        for name, values in inputs.items():
            self._interpreter.set_tensor(self._inputs[name], values)
        self._interpreter.invoke()
        return [self._interpreter.get_tensor(index) for index in self._outputs]

    def _resize(self, shapes: dict[str, tuple[int, ...]]) -> None:
        self._shapes = {}
        for name, shape in shapes.items():
            self._interpreter.resize_tensor_input(self._inputs[name], shape)
        self._interpreter.allocate_tensors()
        self._shapes = shapes


def named(interpreter: engine.Interpreter) -> tuple[dict[str, dict], dict[str, dict]]:
    """What the engine tells of the graph's inputs and of its outputs, by name."""
    signatures = [*interpreter.get_signature_list()]
    if len(signatures) == 1:
        runner = interpreter.get_signature_runner(signatures[0])
        return runner.get_input_details(), runner.get_output_details()
    inputs, outputs = interpreter.get_input_details(), interpreter.get_output_details()
    return {told["name"]: told for told in inputs}, {told["name"]: told for told in outputs}


def signature_of(inputs: Mapping[str, dict], outputs: Mapping[str, dict]) -> GraphSignature:
    """Raises Reject (bundle)."""
    return GraphSignature([_tensor(name, told) for name, told in inputs.items()], [_tensor(name, told) for name, told in outputs.items()])


def _tensor(name: str, told: dict) -> GraphTensor:
    quantization = told["quantization_parameters"]
    scales, zero_points = quantization["scales"].tolist(), quantization["zero_points"].tolist()
    if len(scales) > 1:
        raise Reject(f"the graph's {name!r} has {len(scales)} scales, and values have one", code="bundle")
    dtype = np.dtype(told["dtype"])
    return GraphTensor(
        name=name,
        dtype=STRING if dtype.kind in "OSU" else dtype.name,
        shape=told["shape_signature"].tolist(),
        scale=scales[0] if scales else 0.0,
        zero_point=zero_points[0] if scales else 0,
    )


def _delegate(library: str, options: Mapping[str, str]) -> engine.Delegate:
    try:
        if not hasattr(ctypes.CDLL(library), _ENTRY):
            raise Reject(f"{library} is no delegate: it has no {_ENTRY}", code="no-variant")
        return engine.load_delegate(library, dict(options))
    except (OSError, ValueError) as error:  # there is none; it refused
        raise Reject(f"the delegate {library} does not load: {error}", code="no-variant") from error


def _nodes(interpreter: engine.Interpreter) -> int:
    """Those that a delegate took stay, and its own come beside them."""
    return len(interpreter._get_ops_details())
