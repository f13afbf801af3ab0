"""The protocol's names of tensor types, and ours."""

from edge_agent.serving.refusals import Refused
from fleet_contract.tensors import STRING, DType

BYTES = "BYTES"
_DTYPES: dict[str, DType] = {
    "BOOL": "bool",
    **{f"UINT{bits}": f"uint{bits}" for bits in (8, 16, 32, 64)},
    **{f"INT{bits}": f"int{bits}" for bits in (8, 16, 32, 64)},
    **{f"FP{bits}": f"float{bits}" for bits in (16, 32, 64)},
    BYTES: STRING,
}
_DATATYPES = {dtype: datatype for datatype, dtype in _DTYPES.items()}


def dtype_named(datatype: str) -> DType:
    """Raises Refused (unsupported) for BF16 and what else the protocol may bring."""
    dtype = _DTYPES.get(datatype)
    if dtype is None:
        raise Refused(f"datatype {datatype[:20]!r} is not served, only {', '.join(_DTYPES)}", code="unsupported")
    return dtype


def datatype_of(dtype: DType) -> str:
    return _DATATYPES[dtype]
