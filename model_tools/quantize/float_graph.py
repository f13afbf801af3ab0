"""A float32 ONNX model as quantizers need it: tidied, its layers named, and which of its nodes may compute in int8."""

import tempfile
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from onnx import numpy_helper

from model_tools.errors import BadInput

WEIGHTED = ("Conv", "Gemm", "MatMul")
_CARRYING = (
    *("Relu", "Clip", "LeakyRelu", "MaxPool", "AveragePool", "GlobalAveragePool"),
    *("Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze", "Concat", "Add"),
)
"""What computes on int8 as it is; only ever between two weighted layers: in front of the first one raw units of very different sizes would share one
scale, and behind the last one rounding gains nothing."""
_OPSET = 13
"""Scales per channel begin here."""
_DOMAINS = ("", "ai.onnx")
_FIELD = "model"


@dataclass(frozen=True)
class FloatGraph:
    """`model` has one float32 input, inferred shapes, and a name for every node; batch norms and constants are folded."""

    model: onnx.ModelProto

    @property
    def input(self) -> str:
        return self.model.graph.input[0].name

    @property
    def fixed_rows(self) -> int:
        """How many it takes at once; 0: any number."""
        shape = self.model.graph.input[0].type.tensor_type.shape.dim
        return shape[0].dim_value if len(shape) else 0

    @cached_property
    def weights(self) -> dict[str, np.ndarray]:
        """Every constant, by name."""
        return {tensor.name: numpy_helper.to_array(tensor) for tensor in self.model.graph.initializer}

    @cached_property
    def layers(self) -> list[onnx.NodeProto]:
        """Those with constant weights, in the order of the graph."""
        return [node for node in self.model.graph.node if node.op_type in WEIGHTED and node.input[1] in self.weights]

    @cached_property
    def consumers(self) -> dict[str, list[onnx.NodeProto]]:
        """The nodes that read a tensor."""
        found: dict[str, list[onnx.NodeProto]] = {}
        for node in self.model.graph.node:
            for name in dict.fromkeys(node.input):
                found.setdefault(name, []).append(node)
        return found

    @cached_property
    def producers(self) -> dict[str, onnx.NodeProto]:
        return {name: node for node in self.model.graph.node for name in node.output}

    def data_inputs(self, node: onnx.NodeProto) -> list[str]:
        """What is no constant."""
        return [name for name in node.input if name and name not in self.weights]

    def integers(self, excluded: Collection[str] = ()) -> list[onnx.NodeProto]:
        """The nodes that may compute in int8 where the layers `excluded` do not."""
        layers = {node.name for node in self.layers if node.name not in excluded}
        behind = self._behind(layers)
        wanted: set[str] = set()
        for node in reversed(self.model.graph.node):
            followers = {other.name for name in node.output for other in self.consumers.get(name, ())}
            if node.name in layers or (node.name in behind and followers & wanted):
                wanted.add(node.name)
        return [node for node in self.model.graph.node if node.name in wanted]

    def _behind(self, layers: Collection[str]) -> set[str]:
        """The carrying nodes all of whose inputs come from these layers."""
        reached = set(layers)
        for node in self.model.graph.node:
            sources = [self.producers.get(name) for name in self.data_inputs(node)]
            if node.op_type in _CARRYING and sources and all(source is not None and source.name in reached for source in sources):
                reached.add(node.name)
        return reached


def open_float(data: bytes) -> FloatGraph:
    """Raises BadInput for what is no float32 ONNX model of one input that stands alone in its file and runs here."""
    try:
        model = onnx.load_from_string(data)
    except DecodeError as error:
        raise BadInput(f"this is no ONNX model: {error}", field=_FIELD) from error
    _check(model)
    return FloatGraph(_named(_tidied(_upgraded(model))))


def _check(model: onnx.ModelProto) -> None:
    constants = {tensor.name for tensor in model.graph.initializer}
    if any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in model.graph.initializer):
        raise BadInput("the model keeps weights in other files: save it as one file", field=_FIELD)
    inputs = [value for value in model.graph.input if value.name not in constants]
    if len(inputs) != 1 or not model.graph.node:
        names = ", ".join(value.name for value in inputs) or "none"
        raise BadInput(f"a model of one input can be quantized; the inputs of this one: {names}", field=_FIELD, limit=1)
    if inputs[0].type.tensor_type.elem_type != onnx.TensorProto.FLOAT:
        raise BadInput(f"input {inputs[0].name!r} is not float32", field=_FIELD)
    if already := next((node.op_type for node in model.graph.node if "Quantize" in node.op_type or "Integer" in node.op_type), None):
        raise BadInput(f"the model is quantized already: it has {already}", field=_FIELD)
    if foreign := next((node for node in model.graph.node if node.domain not in _DOMAINS), None):
        raise BadInput(f"operator {foreign.domain}.{foreign.op_type} is not standard ONNX", field=_FIELD)


def _upgraded(model: onnx.ModelProto) -> onnx.ModelProto:
    opset = next((entry.version for entry in model.opset_import if entry.domain in _DOMAINS), 0)
    if opset >= _OPSET:
        return model
    try:
        return onnx.version_converter.convert_version(model, _OPSET)
    except (RuntimeError, ValueError, onnx.checker.ValidationError) as error:
        raise BadInput(f"opset {opset} cannot be raised to {_OPSET}: {error}", field=_FIELD, limit=_OPSET) from error


def _tidied(model: onnx.ModelProto) -> onnx.ModelProto:
    """By ONNX Runtime's own basic optimisations: batch norms folded, a product and its bias one Gemm. Only standard operators come out."""
    import onnxruntime

    from model_tools.graphs import onnx_errors

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    with tempfile.TemporaryDirectory() as folder:
        options.optimized_model_filepath = str(Path(folder, "tidied.onnx"))
        try:
            onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
            tidied = onnx.load(options.optimized_model_filepath)
        except (*onnx_errors(), RuntimeError, ValueError) as error:
            raise BadInput(f"the model does not run: {error}", field=_FIELD) from error
    return tidied


def _named(model: onnx.ModelProto) -> onnx.ModelProto:
    _drop_constant_inputs(model)
    names = _free_names(model)
    seen: set[str] = set()
    for node in model.graph.node:
        if not node.name or node.name in seen:
            node.name = next(names)
        seen.add(node.name)
    del model.metadata_props[:]
    used = {node.domain for node in model.graph.node}
    kept = [entry for entry in model.opset_import if entry.domain in used]
    del model.opset_import[:]
    model.opset_import.extend(kept)
    return onnx.shape_inference.infer_shapes(model)


def _drop_constant_inputs(model: onnx.ModelProto) -> None:
    """Old exporters list every weight as an input, too."""
    constants = {tensor.name for tensor in model.graph.initializer}
    kept = [value for value in model.graph.input if value.name not in constants]
    del model.graph.input[:]
    model.graph.input.extend(kept)


def _free_names(model: onnx.ModelProto) -> Iterator[str]:
    taken = {node.name for node in model.graph.node}
    return (name for number in range(2**31) if (name := f"node{number}") not in taken)
