"""From an answer to the body of its response. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np

from edge_agent.catalogue import Prediction
from edge_agent.serving.classification import best_classes
from edge_agent.serving.datatypes import datatype_of
from edge_agent.serving.refusals import Refused
from edge_agent.serving.rest.schema import InferRequest, InferResponse, OutputParameters, ResponseTensor
from fleet_contract import tensors
from fleet_contract.tensors import STRING

_encoder = msgspec.json.Encoder()
_DEFAULT = OutputParameters()


def write(request: InferRequest, prediction: Prediction, names: Sequence[str], told: list[dict] | None) -> tuple[bytes, list[bytes]]:
    """The JSON, and the binary tensors that follow it. `told` are the answers by row, where they were asked for.
    Raises Refused (unsupported, bad-tensor) for an output that cannot be told as it was asked for."""
    wanted = {output.name: output.parameters for output in request.outputs}
    outputs, binary = [], []
    for name in names:
        how = wanted.get(name, _DEFAULT)
        array = _array(name, how, prediction)
        if how.binary_data if how.binary_data is not None else request.parameters.binary_data_output:
            binary.append(tensors.encode(array))
            outputs.append(_tensor(name, array, parameters={"binary_data_size": len(binary[-1])}))
        else:
            outputs.append(_tensor(name, array, data=_values(name, array)))
    parameters = {} if told is None else {"answers": told}
    return _encoder.encode(InferResponse(prediction.model, prediction.version, outputs, request.id, parameters)), binary


def _array(name: str, how: OutputParameters, prediction: Prediction) -> np.ndarray:
    if how.shared_memory_region is not None:
        raise Refused(f"output {name!r}: memory is not shared with callers", code="unsupported")
    array = prediction.outputs[name]
    return best_classes(name, array, prediction.manifest.output, how.classification) if how.classification else array


def _tensor(name: str, array: np.ndarray, **values) -> ResponseTensor:
    return ResponseTensor(name, datatype_of(tensors.dtype_of(array)), list(array.shape), **values)


def _values(name: str, array: np.ndarray) -> list:
    """In row-major order; NaN and infinity become null, as JSON has no word for them."""
    values = array.ravel().tolist()
    if tensors.dtype_of(array) != STRING:
        return values
    try:
        return [value.decode() if isinstance(value, bytes) else str(value) for value in values]
    except UnicodeDecodeError as error:
        raise Refused(f"output {name!r} holds bytes that are no text: ask for it as binary data", code="unsupported") from error
