"""The inputs that a bundle's known answers and reference are made from, held to the manifest as a device would hold them."""

import io
import zipfile

import numpy as np

from fleet_contract.inputs import InputSpec, VectorInput, WindowInput
from fleet_contract.signature import inputs_of
from fleet_contract.tensors import ANY, STRING, TensorSpec
from model_tools.errors import BadInput
from model_tools.running import Tensors

_FIELD = "samples.file"


def read_samples(data: bytes, spec: InputSpec) -> Tensors:
    """By the manifest's tensor names, in its types, as many rows of each. Raises BadInput naming the tensor."""
    wanted = inputs_of(spec)
    arrays = _parse(data, wanted)
    found = {tensor.name: _fitting(arrays, tensor) for tensor in wanted}
    if len({len(values) for values in found.values()}) != 1:
        raise BadInput(f"the samples have {[len(values) for values in found.values()]} rows, not as many of each tensor", field=_FIELD)
    if isinstance(spec, VectorInput | WindowInput):
        _check_range(found[spec.tensor], spec)
    return found


def _parse(data: bytes, wanted: tuple[TensorSpec, ...]) -> Tensors:
    try:
        loaded = np.load(io.BytesIO(data), allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return {wanted[0].name: loaded}
        with loaded:
            return {name: loaded[name] for name in loaded.files}
    except (ValueError, EOFError, OSError, zipfile.BadZipFile) as error:
        raise BadInput(f"the samples are no .npy or .npz of numbers: {error}", field=_FIELD) from error


def _fitting(arrays: Tensors, tensor: TensorSpec) -> np.ndarray:
    if tensor.dtype == STRING:
        raise BadInput(f"tensor {tensor.name!r}: samples of text are not supported", field=_FIELD)
    if tensor.name not in arrays:
        raise BadInput(f"the samples have no tensor {tensor.name!r}; they have {', '.join(arrays)}", field=_FIELD)
    values = arrays[tensor.name]
    if values.dtype.kind not in "biuf" or not np.can_cast(values.dtype, tensor.dtype, "same_kind"):
        raise BadInput(f"samples of {tensor.name!r} are {values.dtype}, not {tensor.dtype}", field=_FIELD)
    shape = tensor.shape
    if values.ndim != len(shape) or any(a not in (ANY, b) for a, b in zip(shape[1:], values.shape[1:], strict=True)):
        raise BadInput(f"samples of {tensor.name!r} have the shape {list(values.shape)}, not {shape}", field=_FIELD)
    if values.dtype.kind == "f" and tensor.finite and not np.isfinite(values).all():
        raise BadInput(f"samples of {tensor.name!r} hold NaN or infinity", field=_FIELD)
    return np.ascontiguousarray(values, tensor.dtype)


def _check_range(values: np.ndarray, spec: VectorInput | WindowInput) -> None:
    """A device refuses what is outside."""
    flat = values.reshape(-1, len(spec.columns))
    outside = ((flat < np.float32(spec.low)) | (flat > np.float32(spec.high))).any(axis=0)
    if outside.any():
        at = int(outside.argmax())
        raise BadInput(
            f"samples of column {spec.columns[at]!r} reach from {flat[:, at].min():g} to {flat[:, at].max():g}, outside its bounds",
            field=f"input.low, input.high of {spec.columns[at]}",
            limit=spec.high[at],
        )
