"""What others make of the same two files."""

import importlib
import importlib.util
import io

from fleet_contract.compression import zstd

_LEVEL = 19


def zstd_whole(target: bytes) -> int:
    return len(zstd.compress(target, _LEVEL))


def zstd_patch(base: bytes, target: bytes) -> int:
    """`zstd --patch-from`: the older file as a prefix."""
    window_log = max(10, (len(base) + len(target)).bit_length())
    options = {zstd.CompressionParameter.compression_level: _LEVEL, zstd.CompressionParameter.window_log: window_log}
    return len(zstd.compress(target, options=options, zstd_dict=zstd.ZstdDict(base, is_raw=True).as_prefix))


def bsdiff4(base: bytes, target: bytes) -> int:
    return len(importlib.import_module("bsdiff4").diff(base, target))


def detools(base: bytes, target: bytes) -> int | None:
    """With its best compression here, lzma; None where it is not installed."""
    if importlib.util.find_spec("detools") is None:
        return None
    out = io.BytesIO()
    importlib.import_module("detools").create_patch(io.BytesIO(base), io.BytesIO(target), out, compression="lzma")
    return len(out.getvalue())
