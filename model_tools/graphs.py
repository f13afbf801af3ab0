"""Model files opened by their own runtimes on the CPU here, single-threaded unless asked otherwise, so that the same model and inputs give the same numbers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from fleet_contract.tensors import ANY
from model_tools.errors import BadInput


@dataclass(frozen=True)
class GraphTensor:
    """As the engine tells it: `shape` with ANY for an open axis; `scale` is 0 where the tensor is not quantized."""

    dtype: str
    shape: tuple[int, ...]
    scale: float = 0.0
    zero_point: int = 0


class Graph(Protocol):
    @property
    def inputs(self) -> Mapping[str, GraphTensor]: ...

    @property
    def outputs(self) -> Mapping[str, GraphTensor]: ...

    def run(self, fed: Mapping[str, np.ndarray], wanted: Sequence[str]) -> list[np.ndarray]:
        """Raises BadInput for what the engine refuses."""


def open_graph(runtime: str, model: bytes, *, fused: bool = True, threads: int = 1) -> Graph:
    """`fused` False: every graph optimisation off and, for LiteRT, the reference kernels. Raises BadInput for a file that does not load."""
    opened = OnnxGraph if runtime == "onnxruntime" else LiteRtGraph
    return opened(model, fused=fused, threads=threads)


class OnnxGraph:
    def __init__(self, model: bytes, *, fused: bool, threads: int = 1) -> None:
        import onnxruntime  # a quarter of a second that `--help` need not wait for

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.log_severity_level = 4
        if not fused:
            options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        try:
            self._session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        except (*onnx_errors(), RuntimeError, ValueError) as error:
            raise BadInput(f"the model does not run: {error}", field="model") from error
        self.inputs = {node.name: _of_node(node) for node in self._session.get_inputs()}
        self.outputs = {node.name: _of_node(node) for node in self._session.get_outputs()}

    def run(self, fed: Mapping[str, np.ndarray], wanted: Sequence[str]) -> list[np.ndarray]:
        try:
            return self._session.run(list(wanted), dict(fed))
        except (*onnx_errors(), RuntimeError, ValueError) as error:
            raise BadInput(f"the model does not run: {error}", field="model") from error


class LiteRtGraph:
    """Tensors go by their names in the file's only signature, where there is one, else by their own."""

    def __init__(self, model: bytes, *, fused: bool, threads: int = 1) -> None:
        """Raises BadInput also where LiteRT is not installed."""
        try:
            from ai_edge_litert.interpreter import Interpreter, OpResolverType
        except ImportError as error:
            raise BadInput("TFLite models need the extra `litert` (pip install 'edgefleet[litert]')", field="runtime") from error
        kernels = OpResolverType.AUTO if fused else OpResolverType.BUILTIN_REF
        try:
            self._interpreter = Interpreter(model_content=model, num_threads=threads, experimental_op_resolver_type=kernels)
            inputs, outputs = _litert_details(self._interpreter)
        except (RuntimeError, ValueError) as error:
            raise BadInput(f"the model does not run: {error}", field="model") from error
        self._inputs = {name: told["index"] for name, told in inputs.items()}
        self._outputs = {name: told["index"] for name, told in outputs.items()}
        self.inputs = {name: _of_details(told) for name, told in inputs.items()}
        self.outputs = {name: _of_details(told) for name, told in outputs.items()}

    def run(self, fed: Mapping[str, np.ndarray], wanted: Sequence[str]) -> list[np.ndarray]:
        try:
            for name, values in fed.items():
                self._interpreter.resize_tensor_input(self._inputs[name], values.shape)
            self._interpreter.allocate_tensors()
            for name, values in fed.items():
                self._interpreter.set_tensor(self._inputs[name], values)
            self._interpreter.invoke()
        except (RuntimeError, ValueError) as error:
            raise BadInput(f"the model does not run: {error}", field="model") from error
        return [self._interpreter.get_tensor(self._outputs[name]) for name in wanted]


_ONNX_TYPES = {"float": "float32", "double": "float64"}


def _of_node(node) -> GraphTensor:
    kind = node.type.removeprefix("tensor(").removesuffix(")")
    return GraphTensor(_ONNX_TYPES.get(kind, kind), tuple(axis if isinstance(axis, int) else ANY for axis in node.shape))


def onnx_errors() -> tuple[type[Exception], ...]:
    """onnxruntime's own errors; they have no base class of their own."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    return (state.Fail, state.InvalidArgument, state.InvalidGraph, state.InvalidProtobuf, state.NotImplemented, state.RuntimeException)


def _litert_details(interpreter) -> tuple[dict[str, dict], dict[str, dict]]:
    signatures = list(interpreter.get_signature_list())
    if len(signatures) == 1:
        runner = interpreter.get_signature_runner(signatures[0])
        return runner.get_input_details(), runner.get_output_details()
    inputs, outputs = interpreter.get_input_details(), interpreter.get_output_details()
    return {told["name"]: told for told in inputs}, {told["name"]: told for told in outputs}


def _of_details(told: Mapping) -> GraphTensor:
    scale, zero_point = told["quantization"]
    return GraphTensor(np.dtype(told["dtype"]).name, tuple(told["shape_signature"].tolist()), float(scale), int(zero_point))
