"""The JSON of a request for inference, as far as it is read; the protocol lets a server ignore parameters that it does not know."""

from typing import Annotated

import msgspec

from fleet_contract import limits

_Axis = Annotated[int, msgspec.Meta(ge=0, le=limits.MAX_COUNT)]
_Size = Annotated[int, msgspec.Meta(ge=0, le=limits.MAX_HTTP_BODY_BYTES)]


class TensorParameters(msgspec.Struct, frozen=True):
    """`binary_data_size`: the tensor's bytes follow the JSON. Memory is not shared with callers."""

    binary_data_size: _Size | None = None
    shared_memory_region: str | None = None


class RequestTensor(msgspec.Struct, frozen=True):
    name: str
    shape: list[_Axis]
    datatype: str
    parameters: TensorParameters = TensorParameters()
    data: msgspec.Raw = msgspec.Raw()


class OutputParameters(msgspec.Struct, frozen=True):
    """`classification`: so many best classes instead of the values."""

    binary_data: bool | None = None
    classification: Annotated[int, msgspec.Meta(ge=0, le=limits.MAX_CLASSES)] = 0
    shared_memory_region: str | None = None


class RequestOutput(msgspec.Struct, frozen=True):
    name: str
    parameters: OutputParameters = OutputParameters()


class RequestParameters(msgspec.Struct, frozen=True):
    """`timeout` in microseconds. `answers`: what the outputs mean is told in the response's parameters."""

    binary_data_output: bool = False
    timeout: Annotated[int, msgspec.Meta(ge=0, le=limits.MAX_COUNT)] = 0
    answers: bool = False
    sequence_id: int | str = 0


class InferRequest(msgspec.Struct, frozen=True):
    inputs: list[RequestTensor]
    id: str = ""
    outputs: list[RequestOutput] = []
    parameters: RequestParameters = RequestParameters()


class ResponseTensor(msgspec.Struct, frozen=True, omit_defaults=True):
    name: str
    datatype: str
    shape: list[int]
    parameters: dict[str, int] = {}
    data: list | None = None


class InferResponse(msgspec.Struct, frozen=True, omit_defaults=True):
    model_name: str
    model_version: str
    outputs: list[ResponseTensor]
    id: str = ""
    parameters: dict[str, list[dict]] = {}
