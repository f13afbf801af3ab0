"""What an ONNX file may hold before anything opens it: a walk over its protobuf bytes alone (onnx.proto, IR version 13), without a parser of models.

Refused is what an engine might fetch from elsewhere or what none of ours knows: weights in other files, operators of unknown domains, training graphs;
and what only a hostile or broken file has: nesting without end, tensors that claim more values than they have bytes.
"""

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


@dataclass(frozen=True)
class _Part:
    """A message within the file: its kind, where it lies, how many graphs are around it."""

    kind: str
    start: int
    stop: int
    depth: int


def check(model: bytes) -> None:
    """Raises BadModel. What passes may still be a bad model: that is for a sandbox to find out. Time and memory are bounded by the limits."""
    if not model:
        raise BadModel("the model is empty", field="model")
    waiting = [_Part("model", 0, len(model), 0)]
    graphs = fields = 0
    while waiting:
        part = waiting.pop()
        graphs += part.kind == "graph"
        found = _fields(model, part, limits.MAX_MODEL_FIELDS_COUNT - fields)
        fields += len(found)
        _judge(model, part, found)
        waiting += [
            _child(part, number, start, stop) for number, wire, start, stop in found if wire == _BYTES and (part.kind, number) in _CHILDREN
        ]
    if not graphs:
        raise BadModel("the model has no graph", field="graph")


def _child(part: _Part, number: int, start: int, stop: int) -> _Part:
    kind = _CHILDREN[part.kind, number]
    depth = part.depth + (kind == "graph")
    if kind == "training":
        raise BadModel("the model brings a training graph: export it for inference", field="training_info")
    if depth > limits.MAX_MODEL_DEPTH_COUNT:
        raise BadModel("graphs within graphs, too deep", field="graph", limit=limits.MAX_MODEL_DEPTH_COUNT)
    return _Part(kind, start, stop, depth)


def _judge(model: bytes, part: _Part, found: list[tuple[int, int, int, int]]) -> None:
    if part.kind == "tensor":
        _judge_tensor(model, part, found)
    elif part.kind == "node":
        for number, wire, start, stop in found:
            if wire == _BYTES and number == _DOMAIN and model[start:stop].decode("utf-8", "replace") not in DOMAINS:
                raise BadModel(f"an operator of the domain {_shown(model[start:stop])}; known are {', '.join(DOMAINS[1:])}", field="domain")
            if wire == _BYTES and number == _OP_TYPE and model[start:stop].decode("utf-8", "replace") in _FILE_OPERATORS:
                raise BadModel(f"the operator {_shown(model[start:stop])} reads a file", field="op_type")


def _judge_tensor(model: bytes, part: _Part, found: list[tuple[int, int, int, int]]) -> None:
    dims: list[int] = []
    for number, wire, start, stop in found:
        if (number == _EXTERNAL_DATA and wire == _BYTES) or (
            number == _DATA_LOCATION and wire == _VARINT and _varint(model, start, stop)[0]
        ):
            raise BadModel("weights in another file: save the model as one file", field="data_location")
        if number == _DIMS and wire in (_VARINT, _BYTES):
            dims += _packed(model, start, stop)
    most = _VALUES_PER_BYTE * (part.stop - part.start)
    if 0 not in dims and any(values > most for values in accumulate(dims, mul)):
        raise BadModel(f"a tensor claims the shape {dims[:8]} in {part.stop - part.start} bytes", field="dims")


def _packed(model: bytes, start: int, stop: int) -> list[int]:
    """Varints one after the other; a negative one reads as a huge one, and is refused with it."""
    found, at = [], start
    while at < stop:
        value, at = _varint(model, at, stop)
        found.append(value)
    return found


def _fields(model: bytes, part: _Part, most: int) -> list[tuple[int, int, int, int]]:
    """(number, wire type, start, stop) of each field's value; of a varint its bytes."""
    found, at = [], part.start
    while at < part.stop:
        if len(found) >= most:
            raise BadModel("more fields than a model has", field="model", limit=limits.MAX_MODEL_FIELDS_COUNT)
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
        found.append((tag >> 3, wire, at, stop))
        at = stop
    return found


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


def _shown(text: bytes) -> str:
    return repr(text[:64].decode("utf-8", "replace"))
