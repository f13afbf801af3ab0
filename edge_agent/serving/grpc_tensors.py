"""Between the gRPC service's messages and what every protocol here works with."""

from collections.abc import Iterator, Mapping, Sequence

import msgspec
import numpy as np

from edge_agent.catalogue import ModelView, Prediction
from edge_agent.serving.answers import told
from edge_agent.serving.classification import best_classes
from edge_agent.serving.datatypes import datatype_of
from edge_agent.serving.grpc_messages import Messages
from edge_agent.serving.refusals import Refused
from edge_agent.serving.requests import GivenTensor, Reader, flat_reader
from edge_agent.serving.service import Answered, Call
from fleet_contract import limits, tensors
from fleet_contract.tensors import TensorSpec

_CONTENTS = {
    "BOOL": "bool_contents",
    **dict.fromkeys(("INT8", "INT16", "INT32"), "int_contents"),
    **dict.fromkeys(("UINT8", "UINT16", "UINT32"), "uint_contents"),
    "INT64": "int64_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}
"""FP16 is sent raw, or not at all."""
_SHARED_MEMORY = "shared_memory_"
_CLASSIFICATION = "classification"
_ANSWERS = "answers"
_TIMEOUT = "timeout"
_SEQUENCE = "sequence_id"
_NO_DEADLINE_S = 86_400
"""The library tells centuries for a caller that set none."""


def call_of(request, remaining_s: float | None) -> Call:
    """`remaining_s` is until the caller's deadline. Raises Refused (bad-request, unsupported) for what does not depend on the model."""
    for tensor in (*request.inputs, *request.outputs):
        _check_parameters(tensor.name, tensor.parameters)
    return Call(
        model=request.model_name,
        version=request.model_version or None,
        inputs=list(_given(request)),
        outputs=[output.name for output in request.outputs],
        timeout_s=_timeout_s(request, remaining_s),
        id=request.id,
    )


def response_of(messages: Messages, request, answered: Answered):
    """A ModelInferResponse: raw where the request was, or a tensor has no other form. Raises Refused (unsupported, bad-tensor) for an output that
    cannot be told as it was asked for."""
    prediction = answered.prediction
    response = messages["ModelInferResponse"](model_name=prediction.model, model_version=prediction.version, id=request.id)
    outputs = _asked(request, prediction, answered.outputs)
    datatypes = {name: datatype_of(tensors.dtype_of(array)) for name, array in outputs.items()}
    raw = len(request.raw_input_contents) > 0 or not {*datatypes.values()} <= {*_CONTENTS}
    for name, array in outputs.items():
        tensor = response.outputs.add(name=name, datatype=datatypes[name], shape=array.shape)
        if raw:
            response.raw_output_contents.append(tensors.encode(array))
        else:
            getattr(tensor.contents, _CONTENTS[tensor.datatype]).extend(_values(array))
    if _ANSWERS in request.parameters and request.parameters[_ANSWERS].bool_param:
        response.parameters[_ANSWERS].string_param = msgspec.json.encode(told(prediction, answered.inputs)).decode()
    return response


def metadata_of(messages: Messages, view: ModelView):
    """A ModelMetadataResponse."""
    response = messages["ModelMetadataResponse"](name=view.name, versions=[view.version], platform=view.platform)
    signature = view.signature
    for specs, shown in (((*signature.inputs, *signature.optional), response.inputs), (signature.outputs, response.outputs)):
        shown.extend(_described(messages, spec) for spec in specs)
    return response


def _described(messages: Messages, spec: TensorSpec):
    return messages["TensorMetadata"](name=spec.name, datatype=datatype_of(spec.dtype), shape=spec.shape)


def _given(request) -> Iterator[GivenTensor]:
    raw = request.raw_input_contents
    if raw and len(raw) != len(request.inputs):
        raise Refused(f"{len(raw)} raw contents for {len(request.inputs)} inputs", code="bad-request")
    for number, tensor in enumerate(request.inputs):
        typed = tensor.HasField("contents")
        if typed and raw:
            raise Refused(f"input {tensor.name[:80]!r} has both raw and typed contents", code="bad-request")
        data = raw[number] if raw else _typed(tensor)
        yield GivenTensor(tensor.name, tensor.datatype, list(tensor.shape), data)


def _typed(tensor) -> Reader | bytes:
    field = _CONTENTS.get(tensor.datatype)
    if field is None:
        return b""  # the type is refused for itself, FP16 for its missing bytes
    filled = [found.name for found, _ in tensor.contents.ListFields()]
    if filled not in ([], [field]):
        raise Refused(f"input {tensor.name[:80]!r}: values of {tensor.datatype} are {field}, not {', '.join(filled)}", code="bad-tensor")
    return flat_reader(list(getattr(tensor.contents, field)))


def _timeout_s(request, remaining_s: float | None) -> float | None:
    """The sooner of the caller's deadline and of the protocol's own parameter, in microseconds."""
    if _SEQUENCE in request.parameters:
        raise Refused("sequences are not served: states are tensors that a caller gets and gives back", code="unsupported")
    timeout_us = request.parameters[_TIMEOUT].int64_param if _TIMEOUT in request.parameters else 0
    if timeout_us < 0:
        raise Refused(f"a timeout of {timeout_us} us", code="bad-request")
    given = [seconds for seconds in (remaining_s, timeout_us / 1e6 or None) if seconds is not None and seconds < _NO_DEADLINE_S]
    return min(given, default=None)


def _check_parameters(name: str, parameters: Mapping) -> None:
    if any(parameter.startswith(_SHARED_MEMORY) for parameter in parameters):
        raise Refused(f"tensor {name[:80]!r}: memory is not shared with callers", code="unsupported")


def _asked(request, prediction: Prediction, names: Sequence[str]) -> dict[str, np.ndarray]:
    """By name, in order; of those that were asked for by class, the best classes."""
    found = {name: prediction.outputs[name] for name in names}
    for output in request.outputs:
        count = output.parameters[_CLASSIFICATION].int64_param if _CLASSIFICATION in output.parameters else 0
        if not 0 <= count <= limits.MAX_CLASSES:
            raise Refused(f"output {output.name!r}: {count} classes, at most {limits.MAX_CLASSES}", code="bad-request")
        if count:
            found[output.name] = best_classes(output.name, found[output.name], prediction.manifest.output, count)
    return found


def _values(array: np.ndarray) -> list:
    flat = array.ravel().tolist()
    return flat if array.dtype.kind != "O" else [item if isinstance(item, bytes) else str(item).encode() for item in flat]
