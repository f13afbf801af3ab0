"""Where noise enters: the signal-to-noise ratio of every layer that two graphs have in common, by the names of their tensors.

A quantizer keeps the names of what it quantizes; what the next layer sees is then behind a pair of QuantizeLinear and DequantizeLinear, and that is
what is compared. Both graphs are run as they are written, without fusing, so that every tensor is there.
"""

from dataclasses import dataclass

import numpy as np

from model_tools.compare.subjects import Subject
from model_tools.errors import BadInput
from model_tools.evaluate.noise import sqnr_db
from model_tools.graphs import open_graph
from model_tools.running import laid_out

_ROWS = 64
_MOST_LAYERS = 400
_MOST_VALUES = 2**26
"""Of all layers' outputs of one batch, float32."""
_CHANNELS_FIRST = {3: (0, 2, 1), 4: (0, 3, 1, 2)}


@dataclass(frozen=True)
class Layer:
    """`snr_db` is the power of A's values by that of B's differences from them, infinite where they are equal."""

    name: str
    kind: str
    snr_db: float
    values: int


def layer_ratios(one: Subject, other: Subject, inputs: np.ndarray) -> list[Layer]:
    """In A's order; empty where the two have no tensor of one name and shape in common. Of two runtimes a tensor may have its channels last in one.
    Run it in the bounded child. Raises BadInput for a model that does not run."""
    found, compared = _tensors(one, inputs), _tensors(other, inputs)
    layers = [_ratio(name, kind, values, compared[name][1]) for name, (kind, values) in found.items() if name in compared]
    return [layer for layer in layers if layer is not None]


def _tensors(subject: Subject, inputs: np.ndarray) -> dict[str, tuple[str, np.ndarray]]:
    read = _onnx_tensors if subject.runtime == "onnxruntime" else _litert_tensors
    return read(subject.data, inputs[:_ROWS])


def _ratio(name: str, kind: str, signal: np.ndarray, told: np.ndarray) -> Layer | None:
    rows = min(len(signal), len(told)) if signal.ndim and told.ndim else 0
    signal, told = signal[:rows], told[:rows]
    if told.shape != signal.shape and told.ndim == signal.ndim and told.ndim in _CHANNELS_FIRST:
        told = told.transpose(_CHANNELS_FIRST[told.ndim])
    if told.shape != signal.shape or not signal.size:
        return None
    return Layer(name, kind, sqnr_db(signal, told), signal[0].size) if signal.any() else None


def _onnx_tensors(model: bytes, inputs: np.ndarray) -> dict[str, tuple[str, np.ndarray]]:
    """The kind of layer and the values of each tensor that a next layer sees, by the name it has in a graph that is not quantized."""
    import onnx

    proto = onnx.load_from_string(model)
    seen = _seen(proto.graph)
    known = {output.name for output in proto.graph.output}
    proto.graph.output.extend(onnx.ValueInfoProto(name=tensor) for tensor in {tensor for _, tensor in seen.values()} - known)
    graph = open_graph("onnxruntime", proto.SerializeToString(), fused=False)
    ((name, taken),) = graph.inputs.items()
    floats = {at: told for at, told in seen.items() if graph.outputs[told[1]].dtype in ("float32", "float16")}
    rows = _affordable(laid_out(inputs, taken.shape), len(floats))
    if taken.shape[0] > 0:
        rows = rows[: taken.shape[0]]
    values = graph.run({name: rows.astype(taken.dtype)}, [tensor for _, tensor in floats.values()])
    return {at: (kind, told.astype(np.float32)) for (at, (kind, _)), told in zip(floats.items(), values, strict=True)}


def _seen(graph) -> dict[str, tuple[str, str]]:
    """Of each layer's output: the kind of layer, and the tensor that the next layer reads for it."""
    constant = {tensor.name for tensor in graph.initializer}
    behind: dict[str, str] = {}
    for node in graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear") and node.input[0] not in constant:
            behind[node.input[0]] = node.output[0]
    found: dict[str, tuple[str, str]] = {}
    for node in graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear", "Constant", "Shape", "Cast") or all(n in constant for n in node.input):
            continue
        name = node.output[0]
        found[_plain(name)] = (node.op_type, behind.get(behind.get(name, ""), name))
    return dict(list(found.items())[:_MOST_LAYERS])


def _plain(name: str) -> str:
    """What a quantizer called a graph's own output, once it had put its pair behind it."""
    return name.removesuffix("_QuantizeLinear_Input")


def _affordable(inputs: np.ndarray, layers: int) -> np.ndarray:
    return inputs[: max(1, _MOST_VALUES // max(1, layers * inputs[0].size))] if len(inputs) else inputs


def _litert_tensors(model: bytes, inputs: np.ndarray) -> dict[str, tuple[str, np.ndarray]]:
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    kernels = OpResolverType.BUILTIN_REF
    try:
        interpreter = Interpreter(model_content=model, experimental_op_resolver_type=kernels, experimental_preserve_all_tensors=True)
        (taken,) = interpreter.get_input_details()
        rows = laid_out(inputs, taken["shape_signature"])[:_ROWS]
        parts = [_litert_row(interpreter, taken, row[None]) for row in rows]
    except (RuntimeError, ValueError) as error:
        raise BadInput(f"the model does not run: {error}", field="model") from error
    return {name: (kind, np.concatenate([part[name][1] for part in parts])) for name, (kind, _) in parts[0].items()} if parts else {}


def _litert_row(interpreter, taken: dict, row: np.ndarray) -> dict[str, tuple[str, np.ndarray]]:
    interpreter.allocate_tensors()
    scale, zero = taken["quantization"]
    if scale:
        bounds = np.iinfo(taken["dtype"])
        row = np.clip(np.rint(row / scale) + zero, bounds.min, bounds.max)
    interpreter.set_tensor(taken["index"], np.ascontiguousarray(row, taken["dtype"]))
    interpreter.invoke()
    details = {told["index"]: told for told in interpreter.get_tensor_details()}
    found = {}
    for step in interpreter._get_ops_details():  # the only way that this library tells which tensors are layers' outputs
        for index in step["outputs"]:
            values = _litert_value(interpreter, details[index])
            if values is not None and step["op_name"] != "DELEGATE":
                found[details[index]["name"]] = (step["op_name"], values)
    return found


def _litert_value(interpreter, told: dict) -> np.ndarray | None:
    scale, zero = told["quantization"]
    kind = np.dtype(told["dtype"])
    if kind.kind != "f" and not scale:
        return None
    values = interpreter.get_tensor(told["index"]).astype(np.float32)
    return (values - np.float32(zero)) * np.float32(scale) if scale else values
