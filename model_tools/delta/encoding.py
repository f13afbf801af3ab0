"""From an alignment to a compressed stream of operations, each stretch as whatever promises to be smallest."""

import numpy as np

from fleet_contract import limits
from fleet_contract.delta import Coding, Kind, compress, operation
from model_tools.delta.alignment import Stretch

CODINGS = (Coding(0, 0), Coding(0, 2), Coding(2, 2), Coding(4, 0))
"""For int8 differences; for float32 differences; for float32 values; for text."""
SAMPLE_BYTES = 1 * limits.MIB
_LANES = 4


def operations(base: bytes, target: bytes, stretches: list[Stretch]) -> list[bytes]:
    """What makes `target`; `stretches` covers it in order."""
    made, at = [], 0
    for stretch in stretches:
        if stretch.length:
            made.append(_operation(base, target[at : at + stretch.length], stretch.like))
        at += stretch.length
    return made


def stream(operations: list[bytes]) -> bytes:
    """Compressed with the coding that is best for it, or for its first MiB."""
    data = b"".join(operations)
    if not data:
        return b""
    tried = {coding: compress(data[:SAMPLE_BYTES], coding) for coding in CODINGS}
    best = min(tried, key=lambda coding: len(tried[coding]))
    return tried[best] if len(data) <= SAMPLE_BYTES else compress(data, best)


def promised_bytes(operations: list[bytes]) -> int:
    """About what `stream` would make of them, told by a MiB from their middle: a minute less for every hundred MiB that nothing can be saved on."""
    data = b"".join(operations)
    middle = max(0, (len(data) - SAMPLE_BYTES) // 2)
    sample = data[middle : middle + SAMPLE_BYTES]
    return len(data) * min(len(compress(sample, coding)) for coding in CODINGS) // max(1, len(sample))


def _operation(base: bytes, data: bytes, like: int | None) -> bytes:
    if like is None:
        return operation(Kind.INSERT, len(data), 0, data)
    held = base[like : like + len(data)]
    if held == data:
        return operation(Kind.COPY, len(data), like)
    difference = (np.frombuffer(data, np.uint8) - np.frombuffer(held, np.uint8)).tobytes()
    if _entropy_bits(difference) <= _entropy_bits(data):
        return operation(Kind.ADD, len(data), like, difference)
    return operation(Kind.INSERT, len(data), 0, data)


def _entropy_bits(data: bytes) -> float:
    """Of all bytes, each foretold from its place in a word alone."""
    values = np.frombuffer(data, np.uint8)
    total = 0.0
    for lane in range(_LANES):
        counts = np.bincount(values[lane::_LANES])
        counts = counts[counts > 0]
        total += float(np.sum(counts * np.log2(counts.sum() / counts))) if len(counts) else 0.0
    return total
