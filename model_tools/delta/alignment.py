"""Which stretch of an older file a stretch of a newer one is most like: by the tensors' names, by place, or by a suffix sort (bsdiff)."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import bsdiff4
import onnx
from google.protobuf.message import DecodeError

from fleet_contract import limits

_LEAST_TENSOR_BYTES = 256
"""A smaller one is found by what is around it."""
_MAX_SORTED_BYTES = 32 * limits.MIB
"""Sorting takes 16 bytes a byte."""


@dataclass(frozen=True)
class Stretch:
    """`length` bytes (0 too) of the newer file and where their like begins in the older one; None when nothing there is."""

    length: int
    like: int | None


@dataclass(frozen=True)
class Alignment:
    """The newer file whole, in order. `way` is a word for people."""

    way: str
    stretches: list[Stretch]


def alignments(base: bytes, target: bytes) -> Iterator[Alignment]:
    """Those worth trying."""
    by_tensor = _by_tensor(tensors(base), tensors(target), len(base), len(target))
    if by_tensor is not None:
        yield by_tensor
        return
    if len(base) == len(target):
        yield Alignment("place", [Stretch(len(target), 0)])
    if base and target and max(len(base), len(target)) <= _MAX_SORTED_BYTES:
        yield _by_sorting(base, target)


def tensors(model: bytes) -> dict[str, tuple[int, int]]:
    """Start and length of the larger tensors' bytes in an ONNX file, by name, in the file's order and apart; none for any other file."""
    try:
        graph = onnx.load_from_string(model).graph
    except (DecodeError, ValueError):
        return {}
    found: dict[str, tuple[int, int]] = {}
    after = 0
    for name, raw in _raw_tensors(graph, ""):
        start = model.find(raw, after) if len(raw) >= _LEAST_TENSOR_BYTES else -1
        if start >= 0:
            found.setdefault(name, (start, len(raw)))
            after = start + len(raw)
    return found


def _raw_tensors(graph: onnx.GraphProto, place: str) -> Iterator[tuple[str, bytes]]:
    """In the order in which protobuf writes them."""
    for node in graph.node:
        for attribute in node.attribute:
            inside = f"{place}/{node.output[0] if node.output else node.name}/{attribute.name}"
            if attribute.HasField("t"):
                yield inside, attribute.t.raw_data
            if attribute.HasField("g"):
                yield from _raw_tensors(attribute.g, inside)
    for tensor in graph.initializer:
        yield f"{place}/{tensor.name}", tensor.raw_data


def _by_tensor(
    base: Mapping[str, tuple[int, int]], target: Mapping[str, tuple[int, int]], base_length: int, length: int
) -> Alignment | None:
    """None unless tensors of the same name and length make most of the newer file. What lies between them is like what lies there in the older."""
    pairs = [(*span, base[name][0]) for name, span in target.items() if name in base and base[name][1] == span[1]]
    if not pairs or 2 * sum(size for _, size, _ in pairs) < length:
        return None
    stretches, at = [], 0
    for start, size, like in pairs:
        gap = start - at
        stretches.append(Stretch(gap, like - gap if like >= gap else None))
        stretches.append(Stretch(size, like))
        at = start + size
    ending, like = length - at, pairs[-1][2] + pairs[-1][1]
    stretches.append(Stretch(ending, like if like + ending <= base_length else None))
    return Alignment("tensors", stretches)


def _by_sorting(base: bytes, target: bytes) -> Alignment:
    control, _, _ = bsdiff4.core.diff(base, target)
    numbers = [bsdiff4.core.decode_int64(control[at : at + 8]) for at in range(0, len(control), 8)]
    stretches, like = [], 0
    for added, new, skipped in zip(numbers[::3], numbers[1::3], numbers[2::3], strict=True):
        stretches += [Stretch(added, like), Stretch(new, None)]
        like += added + skipped
    return Alignment("sorting", stretches)
