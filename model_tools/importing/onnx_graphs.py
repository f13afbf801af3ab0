"""ONNX from elsewhere as the workbench wants it: valid, of a new enough operator set, weights no longer inputs, tensors named as everybody's."""

from collections.abc import Iterator

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from onnx import numpy_helper, version_converter

from model_tools.errors import BadInput, first_line
from model_tools.evaluate.timing import made_up
from model_tools.graphs import OnnxGraph

INPUT, OUTPUT = "input", "logits"
_OPSET = 17
"""The least: per-channel QDQ needs 13, LayerNormalization 17."""
_PROBES = 2
_MOST_DIFFERENCE = 1e-4
_DOMAINS = ("", "ai.onnx")
_LEAST_PROBABILITY = 1e-6


def normalise(data: bytes, *, logits: bool) -> tuple[bytes, list[str]]:
    """The model's bytes and what was changed. `logits`: a softmax at the end goes away, for whoever reads the answers does it.
    Raises BadInput for a file that is torn or invalid."""
    model, told = _parse(data), []
    _drop_weights_from_inputs(model)
    model, raised = _raised(model)
    told += raised
    told += _named(model)
    if logits and _without_softmax(model):
        told.append("the softmax at the end is left out: the answers are logits")
    return strip(model).SerializeToString(deterministic=True), told


def strip(model: onnx.ModelProto) -> onnx.ModelProto:
    """Without what others wrote about it, and without the shapes between, which break quantizers."""
    del model.metadata_props[:]
    del model.graph.value_info[:]
    del model.graph.metadata_props[:]
    for part in (*model.graph.node, *model.graph.initializer, *model.graph.input, *model.graph.output):
        part.doc_string = ""
        del part.metadata_props[:]
    model.doc_string = model.graph.doc_string = ""
    return model


def precision_of(data: bytes) -> str:
    """fp32, fp16 or int8: that of most of its weights' values."""
    model = onnx.load_from_string(data)
    counts = {"fp32": 0, "fp16": 0, "int8": 0}
    kinds = {
        onnx.TensorProto.FLOAT: "fp32",
        onnx.TensorProto.FLOAT16: "fp16",
        onnx.TensorProto.INT8: "int8",
        onnx.TensorProto.UINT8: "int8",
    }
    for tensor in model.graph.initializer:
        if tensor.data_type in kinds:
            counts[kinds[tensor.data_type]] += int(np.prod(tensor.dims))
    return max(counts, key=lambda kind: counts[kind])


def _parse(data: bytes) -> onnx.ModelProto:
    try:
        model = onnx.load_from_string(data)
        onnx.checker.check_model(model, full_check=True)
    except (DecodeError, onnx.checker.ValidationError, onnx.shape_inference.InferenceError, RuntimeError, ValueError, TypeError) as error:
        raise BadInput(f"no valid ONNX model: {first_line(error)}", field="model") from error
    if not model.graph.output:
        raise BadInput("the model has no output", field="model")
    return model


def _drop_weights_from_inputs(model: onnx.ModelProto) -> None:
    """Up to IR version 3 every weight was an input, too."""
    weights = {tensor.name for tensor in model.graph.initializer}
    kept = [value for value in model.graph.input if value.name not in weights]
    del model.graph.input[:]
    model.graph.input.extend(kept)


def _raised(model: onnx.ModelProto) -> tuple[onnx.ModelProto, list[str]]:
    """To the least operator set, where that goes and the answers stay."""
    version = next((one.version for one in model.opset_import if one.domain in _DOMAINS), _OPSET)
    if version >= _OPSET:
        return model, []
    try:
        raised = version_converter.convert_version(model, _OPSET)
        onnx.checker.check_model(raised)
        same = _alike(model, raised)
    except (RuntimeError, ValueError, BadInput, onnx.checker.ValidationError, onnx.shape_inference.InferenceError):
        same = False
    if not same:
        return model, [f"operator set {version} stays: it cannot be raised to {_OPSET} with the same answers"]
    return raised, [f"operator set {version} raised to {_OPSET}"]


def _alike(one: onnx.ModelProto, other: onnx.ModelProto) -> bool:
    """On made-up rows. Raises BadInput where one does not run on them."""
    graphs = [OnnxGraph(model.SerializeToString(), fused=True) for model in (one, other)]
    fed = made_up(graphs[0].inputs, _PROBES)
    answers = [graph.run(fed, [*graph.outputs]) for graph in graphs]
    return all(np.allclose(a, b, atol=_MOST_DIFFERENCE, rtol=_MOST_DIFFERENCE, equal_nan=True) for a, b in zip(*answers, strict=True))


def _named(model: onnx.ModelProto) -> list[str]:
    """Of one input `input`, of one output `logits`."""
    told = []
    for values, name in ((model.graph.input, INPUT), (model.graph.output, OUTPUT)):
        if len(values) == 1 and values[0].name != name:
            told.append(f"tensor {values[0].name!r} is called {name!r}")
            rename(model, values[0].name, name)
    return told


def rename(model: onnx.ModelProto, old: str, new: str) -> None:
    """One tensor, everywhere. One that has the new name already gets another."""
    names = {name for part in _graphs(model.graph) for node in part.node for name in (*node.input, *node.output)}
    if new in names:
        rename(model, new, next(f"{new}_{at}" for at in range(len(names) + 1) if f"{new}_{at}" not in names))
    for part in _graphs(model.graph):
        for value in (*part.input, *part.output, *part.initializer, *part.value_info):
            value.name = new if value.name == old else value.name
        for node in part.node:
            for names_of in (node.input, node.output):
                names_of[:] = [new if name == old else name for name in names_of]


def _graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                if inner.node:
                    yield from _graphs(inner)


def _without_softmax(model: onnx.ModelProto) -> bool:
    output = model.graph.output[0].name
    last = next((node for node in model.graph.node if output in node.output), None)
    if len(model.graph.output) != 1 or last is None or last.op_type != "Softmax":
        return False
    users = sum(list(node.input).count(last.input[0]) for node in model.graph.node)
    if users != 1 or last.input[0] in {value.name for value in (*model.graph.input, *model.graph.initializer)}:
        return False
    before = last.input[0]
    model.graph.node.remove(last)
    for node in model.graph.node:
        node.output[:] = [output if name == before else name for name in node.output]
    return True


def as_logits(model: onnx.ModelProto, probabilities: str, order: list[int] | None) -> None:
    """The named tensor's logarithm becomes the only output, its columns in this order: its softmax gives the probabilities again."""
    graph, name = model.graph, probabilities
    floor = numpy_helper.from_array(np.float32(_LEAST_PROBABILITY), "least_probability")
    graph.initializer.append(floor)
    if order is not None:
        graph.initializer.append(numpy_helper.from_array(np.array(order, np.int64), "class_order"))
        graph.node.append(onnx.helper.make_node("Gather", [name, "class_order"], ["ordered"], axis=1))
        name = "ordered"
    graph.node.append(onnx.helper.make_node("Max", [name, floor.name], ["at_least"]))
    graph.node.append(onnx.helper.make_node("Log", ["at_least"], [OUTPUT]))
