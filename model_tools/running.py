"""Asks a model as devices will: by the manifest's names, in real values, rows first."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from fleet_contract.inputs import ImageInput
from fleet_contract.manifest import Manifest, Variant
from fleet_contract.outputs import Classification, Detection, Raw, Regression
from fleet_contract.signature import inputs_of, signature_of
from fleet_contract.tensors import ANY, TensorSpec
from model_tools.errors import BadInput
from model_tools.graphs import Graph, GraphTensor, open_graph

Tensors = Mapping[str, np.ndarray]

LOGITS = "logits"
"""What our own exports and imports call their output (export.graph.OUTPUT)."""
_BATCH = 256
_BATCH_VALUES = 2**24
"""Large pictures go in smaller batches: their activations are many times their size."""


def run(manifest: Manifest, variant: Variant, model: bytes, inputs: Tensors, *, fused: bool = True) -> dict[str, np.ndarray]:
    """The outputs of the manifest's signature but its states; of a model with states the rows are consecutive steps from a zero state.
    `fused`: see graphs.open_graph. Raises BadInput for a model that does not run, or has not these tensors in these shapes."""
    graph = open_graph(variant.runtime, model, fused=fused)
    _check_names(manifest, variant, graph)
    steps = list(_steps(manifest, variant, graph, inputs))
    left = {state.output for state in manifest.states}
    names = [spec.name for spec in signature_of(manifest).outputs if spec.name not in left]
    rows = len(next(iter(inputs.values())))
    told = {name: np.concatenate([step[name] for step in steps])[:rows] for name in names}
    for name, values in told.items():
        if len(values) != rows:
            raise BadInput(
                f"variant {variant.name!r}: output {name!r} has {len(values)} rows for {rows} inputs", field="output", limit=rows
            )
    return told


def fixed_rows(runtime: str, model: bytes, tensor: str) -> int:
    """How many rows the graph takes at once, 0 for any number. Raises BadInput where it has no input of this name."""
    inputs = open_graph(runtime, model).inputs
    if tensor not in inputs:
        raise BadInput(f"the model has no input {tensor!r}; it has {', '.join(inputs)}", field="tensors")
    shape = inputs[tensor].shape
    return max(0, shape[0]) if shape else 0


def logits(model: bytes, inputs: np.ndarray, *, fused: bool = True) -> np.ndarray:
    """`answers` of an ONNX model."""
    return answers("onnxruntime", model, inputs, fused=fused)


def answers(runtime: str, model: bytes, inputs: np.ndarray, *, fused: bool = True) -> np.ndarray:
    """float32 (rows, ...) in real values: the first output (or "logits") of a model with one input, whatever its layout, batch and types.
    `fused`: see graphs.open_graph. Raises BadInput for a model that does not run, or takes other inputs."""
    graph = open_graph(runtime, model, fused=fused)
    if len(graph.inputs) != 1 or not graph.outputs:
        raise BadInput(f"the model has the inputs {', '.join(graph.inputs)}; one is wanted", field="model", limit=1)
    ((name, tensor),) = graph.inputs.items()
    output = LOGITS if LOGITS in graph.outputs else next(iter(graph.outputs))
    fitting = laid_out(inputs, tensor.shape)
    fixed = tensor.shape[0] if tensor.shape and tensor.shape[0] != ANY else 0
    size = fixed or _batch_rows(fitting)
    parts = [np.empty((0, *(max(0, axis) for axis in graph.outputs[output].shape[1:])), np.float32)] if not len(inputs) else []
    for start in range(0, len(fitting), size):
        rows = np.minimum(np.arange(start, start + size), len(fitting) - 1) if fixed else slice(start, start + size)
        told = graph.run({name: entering(fitting[rows], tensor)}, [output])[0]
        if np.ndim(told) < 1 or len(told) != len(fitting[rows]):
            raise BadInput(
                f"output {output!r} has the shape {[*np.shape(told)]} for {len(fitting[rows])} inputs: rows first", field="output"
            )
        parts.append(_real(told, graph.outputs[output]))
    return np.concatenate(parts)[: len(inputs)]


def laid_out(inputs: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """(rows, channels, height, width), (rows, columns) or (rows, length, columns) as a tensor of `shape` takes them: channels last, or with axes of 1
    more or fewer. Raises BadInput for any other shape."""
    wanted, given = tuple(shape[1:]), inputs.shape[1:]
    if _takes(wanted, given):
        return inputs
    if len(given) == 3 and _takes(wanted, (*given[1:], given[0])):
        return np.ascontiguousarray(inputs.transpose(0, 2, 3, 1))
    if [axis for axis in wanted if axis != 1] == [axis for axis in given if axis != 1]:
        return inputs.reshape(len(inputs), *wanted)
    raise BadInput(f"the model takes {list(shape)} ({ANY}: any length), not {[ANY, *given]}", field="model", limit=str(list(shape)))


def _takes(wanted: Sequence[int], given: Sequence[int]) -> bool:
    return len(wanted) == len(given) and all(axis in (ANY, length) for axis, length in zip(wanted, given, strict=True))


def _steps(manifest: Manifest, variant: Variant, graph: Graph, inputs: Tensors) -> Iterator[dict[str, np.ndarray]]:
    first = next(iter(inputs.values()))
    size = 1 if manifest.states else variant.batch_rows or _batch_rows(first)
    state = {s.input: np.zeros(s.shape, s.dtype) for s in manifest.states}
    constant = {c.input: np.array(c.values).astype(c.dtype).reshape(c.shape) for c in manifest.constants}
    for start in range(0, len(first), size):
        rows = np.arange(start, start + size)
        # the last row again where a graph with fixed rows wants more
        taken = np.minimum(rows, len(first) - 1) if variant.batch_rows else rows[rows < len(first)]
        outputs = _ask(manifest, variant, graph, {**{name: values[taken] for name, values in inputs.items()}, **constant, **state})
        state = {s.input: outputs[s.output] for s in manifest.states}
        yield outputs


def _ask(manifest: Manifest, variant: Variant, graph: Graph, inputs: Tensors) -> dict[str, np.ndarray]:
    given = manifest.input
    if isinstance(given, ImageInput):
        pixels = inputs[given.tensor].astype(np.float32)
        inputs = {**inputs, given.tensor: pixels * np.float32(given.scale) + np.float32(given.offset)}
    fed = {_own(variant, name): entering(values, graph.inputs[_own(variant, name)]) for name, values in inputs.items()}
    specs = signature_of(manifest).outputs
    told = graph.run(fed, [_own(variant, spec.name) for spec in specs])
    for spec, values in zip(specs, told, strict=True):
        _check_shape(manifest, variant, spec, values)
    return {spec.name: _leaving(values, graph.outputs[_own(variant, spec.name)], spec) for spec, values in zip(specs, told, strict=True)}


def _check_shape(manifest: Manifest, variant: Variant, spec: TensorSpec, values: np.ndarray) -> None:
    found, wanted = list(values.shape), list(spec.shape)
    if len(found) != len(wanted) or any(axis not in (ANY, length) for axis, length in zip(wanted[1:], found[1:], strict=True)):
        field = _key(manifest, spec)
        message = f"variant {variant.name!r} answers {spec.name!r} of shape {found}, where {field} wants {wanted} ({ANY}: any length)"
        raise BadInput(message, field=field, limit=str(wanted))


def _key(manifest: Manifest, spec: TensorSpec) -> str:
    """What a person has to change where this output has another shape."""
    output = manifest.output
    if spec.name in {state.output for state in manifest.states}:
        return "states.shape"
    match output:
        case Classification():
            return "output.classes"
        case Detection():
            return "output.boxes" if spec.name == output.boxes else "output.classes"
        case Regression():
            return "output.targets"
        case Raw():
            return "output.tensors"
        case _:
            return "output.tensor"


def _check_names(manifest: Manifest, variant: Variant, graph: Graph) -> None:
    signature = signature_of(manifest)
    for what, specs, found in (
        ("input", (*inputs_of(manifest.input), *signature.optional), graph.inputs),
        ("output", signature.outputs, graph.outputs),
    ):
        missing = [_own(variant, spec.name) for spec in specs if _own(variant, spec.name) not in found]
        if missing:
            raise BadInput(f"variant {variant.name!r} has no {what} {missing[0]!r}; it has {', '.join(found)}", field=f"{what}.tensor")


def _own(variant: Variant, name: str) -> str:
    return variant.tensors.get(name, name)


def entering(values: np.ndarray, tensor: GraphTensor) -> np.ndarray:
    """Quantized where the graph's tensor is: round(value / scale) + zero point, kept within the type (Jacob et al. 2018, arXiv 1712.05877)."""
    kind = np.dtype(tensor.dtype)
    if tensor.scale:
        values = np.rint(values.astype(np.float32) / np.float32(tensor.scale)) + np.float32(tensor.zero_point)
    elif kind.kind in "iu" and values.dtype.kind == "f":
        values = np.rint(values)
    if kind.kind in "iu":
        values = np.clip(values, np.iinfo(kind).min, np.iinfo(kind).max)
    return np.ascontiguousarray(values, kind)


def _leaving(values: np.ndarray, tensor: GraphTensor, spec: TensorSpec) -> np.ndarray:
    return (_real(values, tensor) if tensor.scale else values).astype(spec.dtype, copy=False)


def _real(values: np.ndarray, tensor: GraphTensor) -> np.ndarray:
    told = values.astype(np.float32)
    return (told - np.float32(tensor.zero_point)) * np.float32(tensor.scale) if tensor.scale else told


def _batch_rows(inputs: np.ndarray) -> int:
    return max(1, min(_BATCH, _BATCH_VALUES // max(1, inputs[0].size))) if len(inputs) else 1
