"""From the body of a request to the tensors that it gives. Pure."""

from __future__ import annotations

from functools import cache, partial
from math import prod
from typing import Any

import msgspec
import numpy as np

from edge_agent.serving.refusals import Refused
from edge_agent.serving.requests import GivenTensor
from edge_agent.serving.rest.schema import InferRequest, RequestTensor
from fleet_contract import limits
from fleet_contract.tensors import STRING, DType

_decoder = msgspec.json.Decoder(InferRequest)
_BLANK = b" \t\r\n"


def read(body: bytes | memoryview, header_length: int | None) -> tuple[InferRequest, list[GivenTensor]]:
    """`header_length` is that of the JSON before binary tensors, None where there are none.
    Raises Refused with codes bad-request, bad-tensor, unsupported or too-large."""
    length = len(body) if header_length is None else header_length
    if length > len(body):
        raise Refused(f"Inference-Header-Content-Length is {length}, the body has {len(body)} bytes")
    if length > limits.MAX_HTTP_JSON_BYTES:
        raise Refused(f"{length} bytes of JSON, at most {limits.MAX_HTTP_JSON_BYTES}; larger tensors go as binary data", code="too-large")
    request = _decode(memoryview(body)[:length])
    if not 1 <= len(request.inputs) <= limits.MAX_TENSORS_COUNT:
        raise Refused(f"{len(request.inputs)} inputs, not 1 to {limits.MAX_TENSORS_COUNT}")
    if request.parameters.sequence_id not in (0, ""):
        raise Refused("sequences are not kept here: give the states as inputs, and take them from the outputs", code="unsupported")
    return request, _given(request.inputs, memoryview(body)[length:])


def _decode(text: memoryview) -> InferRequest:
    try:
        return _decoder.decode(text)
    except (ValueError, RecursionError) as error:
        raise Refused(f"the request is not as the protocol says: {error}") from error


def _given(inputs: list[RequestTensor], binary: memoryview) -> list[GivenTensor]:
    given, at = [], 0
    for tensor in inputs:
        size = tensor.parameters.binary_data_size
        if tensor.parameters.shared_memory_region is not None:
            raise Refused(f"input {tensor.name[:80]!r}: memory is not shared with callers", code="unsupported")
        if (size is None) == (not len(bytes(tensor.data))):
            raise Refused(f"input {tensor.name[:80]!r} must have either data or binary_data_size", code="bad-tensor")
        if size is None:
            given.append(GivenTensor(tensor.name, tensor.datatype, tensor.shape, partial(_values, tensor.data)))
            continue
        given.append(GivenTensor(tensor.name, tensor.datatype, tensor.shape, binary[at : at + size]))
        at += size
    if at != len(binary):
        raise Refused(f"the inputs say that {at} bytes follow the JSON, there are {len(binary)}", code="bad-tensor")
    return given


def _values(data: msgspec.Raw, dtype: DType, shape: list[int]) -> np.ndarray:
    """Of a flat or a nested list. Raises ValueError."""
    text = bytes(data)
    opening = text[: 4 * limits.MAX_TENSOR_RANK].translate(None, _BLANK)
    depth = len(opening) - len(opening.lstrip(b"["))
    if depth not in (1, len(shape)):
        raise ValueError(f"data is nested {depth} deep, not flat and not as its shape says")
    if text.count(b",") > prod(shape) and dtype != STRING:
        raise ValueError(f"data holds more values than the shape {shape} says")
    values = _list_decoder(dtype, depth).decode(text)
    array = np.array(values, object if dtype == STRING else dtype)  # ValueError where it is ragged
    return array.reshape(shape) if depth == 1 else array


@cache
def _list_decoder(dtype: DType, depth: int) -> msgspec.json.Decoder:
    kind: Any = {"b": bool, "O": str, "f": float}.get(np.dtype(object if dtype == STRING else dtype).kind, int)
    for _ in range(depth):
        kind = list[kind]
    return msgspec.json.Decoder(kind)
