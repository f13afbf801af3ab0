"""Arrays as binary tensors of the Open Inference Protocol: little-endian, C order; strings each behind their length."""

import numpy as np

_DATATYPES = {"bool": "BOOL"}
_DATATYPES |= {f"{kind}int{bits}": f"{kind.upper()}INT{bits}" for kind in ("", "u") for bits in (8, 16, 32, 64)}
_DATATYPES |= {f"float{bits}": f"FP{bits}" for bits in (16, 32, 64)}
_DTYPES = {datatype: dtype for dtype, datatype in _DATATYPES.items()}
_BYTES = "BYTES"
_LENGTH_BYTES = 4


def encode(array: np.ndarray) -> tuple[str, bytes]:
    """The protocol's datatype, and the bytes. Raises ValueError for an array that cannot be sent."""
    if array.dtype.kind in "OSU":
        items = [item if isinstance(item, bytes) else str(item).encode() for item in array.ravel().tolist()]
        return _BYTES, b"".join(len(item).to_bytes(_LENGTH_BYTES, "little") + item for item in items)
    if array.dtype.name not in _DATATYPES:
        raise ValueError(f"an array of {array.dtype} cannot be sent")
    return _DATATYPES[array.dtype.name], array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()


def decode(datatype: str, shape: list[int], data: bytes) -> np.ndarray:
    """Raises ValueError when they disagree."""
    if datatype == _BYTES:
        return _strings(data).reshape(shape)
    if datatype not in _DTYPES:
        raise ValueError(f"the datatype {datatype!r} is not known")
    return np.frombuffer(data, np.dtype(_DTYPES[datatype]).newbyteorder("<")).reshape(shape)


def _strings(data: bytes) -> np.ndarray:
    items, at = [], 0
    while at < len(data):
        start = at + _LENGTH_BYTES
        at = start + int.from_bytes(data[at:start], "little")
        if at > len(data):
            raise ValueError("a string ends behind the data")
        items.append(data[start:at])
    found = np.empty(len(items), object)
    found[:] = items
    return found
