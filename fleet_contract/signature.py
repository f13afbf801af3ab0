"""The tensors by which a bundle is called, whatever variant and backend answer: rows first, in real values."""

from dataclasses import dataclass
from math import prod

import msgspec

from fleet_contract.inputs import ImageInput, InputSpec, TensorsInput, VectorInput, WindowInput
from fleet_contract.manifest import Manifest
from fleet_contract.outputs import Anomaly, Classification, Detection, OutputSpec, Raw, Regression, Threshold
from fleet_contract.tensors import ANY, TensorSpec

_REAL = "float32"


@dataclass(frozen=True)
class Signature:
    """States and constants are inputs that a caller may leave out; states are outputs, too."""

    inputs: tuple[TensorSpec, ...]
    optional: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


def signature_of(manifest: Manifest) -> Signature:
    states = [(state, [*state.shape]) for state in manifest.states]
    optional = [TensorSpec(state.input, state.dtype, shape) for state, shape in states]
    optional += [TensorSpec(constant.input, constant.dtype, constant.shape) for constant in manifest.constants]
    left = [TensorSpec(state.output, state.dtype, shape) for state, shape in states]
    return Signature(inputs_of(manifest.input), tuple(optional), (*_outputs(manifest.output, manifest.input), *left))


def served_signature(manifest: Manifest) -> Signature:
    """As an application calls the bundle: of a model with states one row at a time, since its rows are consecutive steps."""
    found = signature_of(manifest)
    if not manifest.states:
        return found
    return Signature(tuple(map(_of_one_row, found.inputs)), found.optional, tuple(map(_of_one_row, found.outputs)))


def _of_one_row(spec: TensorSpec) -> TensorSpec:
    return msgspec.structs.replace(spec, shape=[1, *spec.shape[1:]]) if spec.shape[:1] == [ANY] else spec


def inputs_of(spec: InputSpec) -> tuple[TensorSpec, ...]:
    """What a caller must give."""
    if isinstance(spec, TensorsInput):
        return tuple(spec.tensors)
    return (TensorSpec(spec.tensor, _REAL, [ANY, *row_shape(spec)]),)


def row_shape(spec: ImageInput | VectorInput | WindowInput) -> tuple[int, ...]:
    """The graph input's shape without the batch axis."""
    match spec:
        case ImageInput(layout="nchw"):
            return (spec.channels, spec.height, spec.width)
        case ImageInput():
            return (spec.height, spec.width, spec.channels)
        case VectorInput():
            return (len(spec.columns),)
        case WindowInput():
            return (spec.length,) if spec.flat else (spec.length, len(spec.columns))


def _outputs(output: OutputSpec, given: InputSpec) -> tuple[TensorSpec, ...]:
    """As far as the manifest says their shapes."""
    match output:
        case Classification():
            return (TensorSpec(output.tensor, _REAL, [ANY, len(output.classes)]),)
        case Threshold() | Anomaly(score="value"):
            return (TensorSpec(output.tensor, _REAL, [ANY, 1]),)
        case Regression():
            return (TensorSpec(output.tensor, _REAL, [ANY, len(output.targets)]),)
        case Anomaly():
            return (TensorSpec(output.tensor, _REAL, inputs_of(given)[0].shape),)
        case Detection():
            boxes = TensorSpec(output.boxes, _REAL, [ANY, ANY, 4])
            return (boxes, TensorSpec(output.scores, _REAL, [ANY, ANY, len(output.classes)]))
        case Raw():
            return tuple(output.tensors)


def max_values(spec: TensorSpec, rows: int, limit: int) -> int:
    """How many values a tensor of so many rows may hold at most; `limit` where the specification leaves more than the rows open."""
    if ANY in spec.shape[1:]:
        return limit
    return prod(spec.shape[1:]) * (rows if spec.shape and spec.shape[0] == ANY else prod(spec.shape[:1]))
