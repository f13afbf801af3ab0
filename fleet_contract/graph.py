"""What an ONNX file may hold before anything opens it: a walk over its protobuf bytes alone (onnx.proto, IR version 13), without a parser of models.

Refused is what an engine might fetch from elsewhere or what none of ours knows: weights in other files, operators of unknown domains, training graphs;
and what only a hostile or broken file has: nesting without end, tensors that claim more values than they have bytes.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate
from operator import mul

from fleet_contract import limits
from fleet_contract.errors import BadModel

DOMAINS = ("", "ai.onnx", "ai.onnx.ml", "com.microsoft")
_FILE_OPERATORS = ("EPContext",)
"""com.microsoft's: names a file of a compiled model."""
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_VALUES_PER_BYTE = 4
"""The densest type packs two bits a value."""
_CHILDREN: dict[tuple[str, int], str] = {
    ("model", 7): "graph",
    ("model", 20): "training",
    ("model", 25): "function",
    ("function", 7): "node",
    ("function", 11): "attribute",
    ("graph", 1): "node",
    ("graph", 5): "tensor",
    ("graph", 15): "sparse",
    ("sparse", 1): "tensor",
    ("sparse", 2): "tensor",
    ("node", 5): "attribute",
    ("attribute", 5): "tensor",
    ("attribute", 10): "tensor",
    ("attribute", 6): "graph",
    ("attribute", 11): "graph",
    ("attribute", 22): "sparse",
    ("attribute", 23): "sparse",
}
_DIMS, _EXTERNAL_DATA, _DATA_LOCATION = 1, 13, 14
_OP_TYPE, _DOMAIN = 4, 7
_MAX_WORD_BYTES = 64
"""Looked at; longer than any that is known."""


@dataclass(frozen=True)
class _Part:
    """A message within the file: its kind, where it lies, how many graphs are around it."""

    kind: str
    start: int
    stop: int
    depth: int


def check(model: bytes) -> None:
    """Raises BadModel. What passes may still be a bad model: that is for a sandbox to find out. The limits bound its time, and the memory that it
    takes beside the model is that of one path from the model down to a leaf."""
    if not model:
        raise BadModel("the model is empty", field="model")
    walk = _Walk(model)
    walk.visit(_Part("model", 0, len(model), 0))
    if not walk.graphs:
        raise BadModel("the model has no graph", field="graph")


class _Walk:
    """Depth first; the depth of graphs bounds that of the recursion."""

    def __init__(self, model: bytes) -> None:
        self._model = model
        self.graphs = self._seen = 0

    def visit(self, part: _Part) -> None:
        model = self._model
        shape: list[int] = []
        self.graphs += part.kind == "graph"
        for number, wire, start, stop in _fields(model, part):
            self._seen += 1
            if self._seen > limits.MAX_MODEL_FIELDS_COUNT:
                raise BadModel("more fields than a model has", field="model", limit=limits.MAX_MODEL_FIELDS_COUNT)
            if part.kind == "node" and wire == _BYTES:
                _judge_operator(number, model[start : min(stop, start + _MAX_WORD_BYTES)])
            elif part.kind == "tensor":
                _judge_place(model, number, wire, start, stop)
                if number == _DIMS and wire in (_VARINT, _BYTES):
                    _read_dims(model, start, stop, shape)
            if wire == _BYTES and (part.kind, number) in _CHILDREN:
                self.visit(_child(part, number, start, stop))
        _judge_shape(part, shape)


def _child(part: _Part, number: int, start: int, stop: int) -> _Part:
    kind = _CHILDREN[part.kind, number]
    depth = part.depth + (kind == "graph")
    if kind == "training":
        raise BadModel("the model brings a training graph: export it for inference", field="training_info")
    if depth > limits.MAX_MODEL_DEPTH_COUNT:
        raise BadModel("graphs within graphs, too deep", field="graph", limit=limits.MAX_MODEL_DEPTH_COUNT)
    return _Part(kind, start, stop, depth)


def _judge_operator(number: int, raw: bytes) -> None:
    word = raw.decode("utf-8", "replace")
    if number == _DOMAIN and word not in DOMAINS:
        raise BadModel(f"an operator of the domain {word!r}; known are {', '.join(DOMAINS[1:])}", field="domain")
    if number == _OP_TYPE and word in _FILE_OPERATORS:
        raise BadModel(f"the operator {word!r} reads a file", field="op_type")


def _judge_place(model: bytes, number: int, wire: int, start: int, stop: int) -> None:
    elsewhere = number == _DATA_LOCATION and wire == _VARINT and _varint(model, start, stop)[0]
    if elsewhere or (number == _EXTERNAL_DATA and wire == _BYTES):
        raise BadModel("weights in another file: save the model as one file", field="data_location")


def _judge_shape(part: _Part, shape: list[int]) -> None:
    most = _VALUES_PER_BYTE * (part.stop - part.start)
    if 0 not in shape and any(values > most for values in accumulate(shape, mul)):
        raise BadModel(f"a tensor claims the shape {shape} in {part.stop - part.start} bytes", field="dims")


def _read_dims(model: bytes, start: int, stop: int, shape: list[int]) -> None:
    """Varints one after the other; a negative one reads as a huge one, and is refused with it."""
    while start < stop:
        value, start = _varint(model, start, stop)
        shape.append(value)
        if len(shape) > limits.MAX_TENSOR_RANK:
            raise BadModel("a tensor of more dimensions than any of ours", field="dims", limit=limits.MAX_TENSOR_RANK)


def _fields(model: bytes, part: _Part) -> Iterator[tuple[int, int, int, int]]:
    """(number, wire type, start, stop) of each field's value; of a varint its bytes."""
    at = part.start
    while at < part.stop:
        tag, at = _varint(model, at, part.stop)
        wire = tag & 7
        if wire == _VARINT:
            _, stop = _varint(model, at, part.stop)
        elif wire == _BYTES:
            length, at = _varint(model, at, part.stop)
            stop = at + length
        elif wire in (_FIXED32, _FIXED64):
            stop = at + (4 if wire == _FIXED32 else 8)
        else:
            raise BadModel(f"wire type {wire} at byte {at}: not a protobuf of ONNX", field="model")
        if stop > part.stop or tag < 8:
            raise BadModel(f"the {part.kind} at byte {part.start} is cut short or no protobuf", field="model")
        yield tag >> 3, wire, at, stop
        at = stop


def _varint(model: bytes, at: int, stop: int) -> tuple[int, int]:
    """The value and where the next thing begins."""
    value = shift = 0
    while at < stop and shift < 70:
        byte = model[at]
        value |= (byte & 0x7F) << shift
        at += 1
        if byte < 0x80:
            return value, at
        shift += 7
    raise BadModel(f"a number that does not end at byte {at}", field="model")
