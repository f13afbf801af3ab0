"""How a bundle's tensors meet a graph's: decided once by the supervisor, sent to the worker with the model, carried out by its runtime."""

import msgspec

from fleet_contract.tensors import DType


class _Struct(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    pass


class Bound(_Struct):
    """The caller's tensor `name` of type `dtype` is the graph's `graph`. An input is first made `scale * value + offset`, in float32, unless these
    are 1 and 0. Where the graph's own tensor is quantized, the runtime quantizes inputs and dequantizes outputs by scale and zero point of the file.
    `rows`: its first axis counts the batch's rows; a state's and a constant's does not."""

    name: str
    graph: str
    dtype: DType
    scale: float = 1.0
    offset: float = 0.0
    rows: bool = True


class Plan(_Struct):
    """`provider` and `options` are the backend's; `precision` the variant's. `batch_rows`: the graph takes so many rows at once (0: any), so the
    runtime goes through larger batches in steps."""

    inputs: list[Bound]
    outputs: list[Bound]
    provider: str
    options: dict[str, str]
    precision: str
    threads: int
    batch_rows: int = 0


class GraphTensor(_Struct):
    """A tensor of the graph as its engine tells it: `dtype` by our name where we have one, else by the engine's; `shape` with -1 for an open axis;
    `scale` is 0 where it is not quantized."""

    name: str
    dtype: str
    shape: list[int]
    scale: float = 0.0
    zero_point: int = 0


class GraphSignature(_Struct):
    inputs: list[GraphTensor]
    outputs: list[GraphTensor]
