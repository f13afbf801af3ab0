"""The data of many batches decompressed together: what one batch needs is mostly spent on making a decompressor."""

from collections.abc import Iterator, Sequence

import pyarrow as pa

from fleet_contract import compression, limits
from fleet_contract.messages import Batch

_MAX_GROUP_BYTES = limits.MAX_BATCH_DATA_BYTES
"""Decompressed, and what stays in a processor's cache."""


def contents(batches: Sequence[Batch]) -> Iterator[memoryview | None]:
    """Of each batch in turn; None where it is to be decompressed alone: it is of another kind, or spoils its group. Holds 1 MiB at a time."""
    zstd = pa.Codec("zstd")
    group: list[Batch] = []
    size = 0
    for batch in batches:
        if size + batch.length > _MAX_GROUP_BYTES:
            yield from _together(zstd, group)
            group, size = [], 0
        group.append(batch)
        size += batch.length
    yield from _together(zstd, group)


def _together(zstd: pa.Codec, group: Sequence[Batch]) -> list[memoryview | None]:
    """zstd frames one after the other are data end to end (RFC 8878, 3.1)."""
    plain = [batch.codec == "zstd" and compression.is_plain(batch.data, batch.length) for batch in group]
    chosen = [batch for batch, fits in zip(group, plain, strict=True) if fits]
    size = sum(batch.length for batch in chosen)
    try:
        whole = memoryview(zstd.decompress(b"".join([batch.data for batch in chosen]), size)) if chosen else memoryview(b"")
    except (OSError, pa.ArrowException):
        return [None] * len(group)
    found: list[memoryview | None] = []
    start = 0
    for batch, fits in zip(group, plain, strict=True):
        found.append(whole[start : start + batch.length] if fits else None)
        start += batch.length if fits else 0
    return found
