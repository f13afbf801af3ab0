"""The delta between two bundles, and whether it is worth having."""

import hashlib
import io
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from fleet_contract import archive, blocks, delta, limits, packets
from fleet_contract.bundle import MANIFEST, Bundle
from fleet_contract.delta import Header
from fleet_contract.manifest import Manifest
from model_tools.delta.alignment import Stretch, alignments
from model_tools.delta.encoding import SAMPLE_BYTES, operations, promised_bytes, stream
from model_tools.errors import Failed

WORTHWHILE_SHARE = 0.8
"""A delta is stored, signed and listed for ever: it must save a fifth of what a device would fetch without it."""

_LARGE_BYTES = 16 * SAMPLE_BYTES
"""Of an entry that is looked at before it is worked on for minutes."""
_GOOD_SHARE = 0.5
"""Of a file: a delta so small is not tried to be bettered by the next, slower way to align."""

Progress = Callable[[float, str], None]
"""Told how much is done, 0..1, and of what."""


@dataclass(frozen=True)
class Part:
    """One entry of the newer bundle with the archive's bytes before it. `way` is unchanged, tensors, place, sorting or new."""

    entry: str
    length: int
    delta_bytes: int
    way: str


@dataclass(frozen=True)
class Difference:
    """`delta` makes the newer bundle from the older: it was applied. `fetched_bytes` is what a device that holds the older one would otherwise fetch:
    the blocks that it lacks, compressed as they are sent."""

    delta: bytes
    parts: list[Part]
    fetched_bytes: int

    @property
    def worthwhile(self) -> bool:
        return len(self.delta) <= min(WORTHWHILE_SHARE * self.fetched_bytes, limits.MAX_DELTA_BYTES)


@dataclass(frozen=True)
class _Made:
    way: str
    data: bytes
    operations: int


def make(base: bytes, target: bytes, progress: Progress) -> bytes | None:
    """The delta from one bundle to another, or None where it would not save enough. Raises BadBundle."""
    old, new, fetched = Bundle(base), Bundle(target), fetched_bytes(base, target)
    if _promised_bytes(base, target, old.manifest, new.manifest) > WORTHWHILE_SHARE * fetched:
        return None
    found = _difference(base, target, old, new, fetched, progress)
    return found.delta if found.worthwhile else None


def difference(base: bytes, target: bytes, progress: Progress) -> Difference:
    """Same bundles, same bytes, on the same machine and versions. Raises BadBundle."""
    return _difference(base, target, Bundle(base), Bundle(target), fetched_bytes(base, target), progress)


def _difference(base: bytes, target: bytes, old: Bundle, new: Bundle, fetched: int, progress: Progress) -> Difference:
    wire, parts, done = bytearray(bytes(Header(old.sha256, new.sha256, len(target)))), [], 0
    for part, data in _streams(base, target, old.manifest, new.manifest):
        wire += data
        parts.append(part)
        done += part.length
        progress(done / len(target), f"{part.entry}: {len(data):,} bytes for {part.length:,}")
    if apply(base, bytes(wire)) != target:
        raise Failed("the delta does not make the bundle: this is a mistake of this program", field="delta", code="internal")
    return Difference(bytes(wire), parts, fetched)


def between_files(base: bytes, target: bytes) -> bytes:
    """The delta between two files of any kind, models outside of a bundle for one."""
    made = _smallest([], base, (0, len(base)), target, limits.MAX_DELTA_OPERATIONS)
    digests = (hashlib.sha256(data).hexdigest() for data in (base, target))
    return bytes(Header(*digests, len(target))) + made.data


def fetched_bytes(base: bytes, target: bytes) -> int:
    """What the blocks of `target` that are not blocks of `base` are in packets."""
    index = blocks.index_of(target)
    held = blocks.index_of(base, index.block_bytes)
    digests = {held.digest(number) for number in range(held.count)}
    lacking = [number for number in range(index.count) if index.digest(number) not in digests]
    sent = ((number, target[start : start + length]) for number in lacking for start, length in [index.span(number)])
    return sum(len(packet.data) for packet in packets.pack("", len(target), index.block_bytes, sent))


def apply(base: bytes, wire: bytes) -> bytes:
    """What a device would make of it. Raises BadDelta."""
    out = io.BytesIO()
    with tempfile.TemporaryDirectory() as folder:
        held, file = Path(folder, "base"), Path(folder, "delta")
        held.write_bytes(base)
        file.write_bytes(wire)
        delta.apply(held, file, out, limits.MAX_BUNDLE_BYTES)
    return out.getvalue()


def _streams(base: bytes, target: bytes, old: Manifest, new: Manifest) -> Iterator[tuple[Part, bytes]]:
    """The parts of `target` in order, each with the stream that makes it."""
    held = archive.spans(base, MANIFEST)
    at, left = 0, limits.MAX_DELTA_OPERATIONS - 2 * limits.MAX_BUNDLE_ENTRIES
    for entry, (start, length) in archive.spans(target, MANIFEST).items():
        before = operations(base, target[at:start], [Stretch(start - at, None)])
        found = held.get(_counterpart(entry, old, new), (0, 0))
        made = _smallest(before, base, found, target[start : start + length], left)
        yield Part(entry, start + length - at, len(made.data), made.way), made.data
        at, left = start + length, left - made.operations
    data = stream(operations(base, target[at:], [Stretch(len(target) - at, None)]))
    yield Part("directory", len(target) - at, len(data), "new"), data


def _promised_bytes(base: bytes, target: bytes, old: Manifest, new: Manifest) -> int:
    """Of the large entries alone, by the first way to align them: enough to tell a retraining that left no weight alone."""
    promised, held = 0, archive.spans(base, MANIFEST)
    for entry, (start, length) in archive.spans(target, MANIFEST).items():
        at, size = held.get(_counterpart(entry, old, new), (0, 0))
        like, data = base[at : at + size], target[start : start + length]
        found = next(alignments(like, data), None) if length > _LARGE_BYTES and like != data else None
        promised += promised_bytes(operations(like, data, found.stretches)) if found else 0
    return promised


def _counterpart(entry: str, old: Manifest, new: Manifest) -> str:
    """The older bundle's entry that is most like it: of the same digest, the same variant, the same name."""
    same = [name for name, held in old.entries.items() if held == new.entries.get(entry)]
    variant = {v.entry: v.name for v in new.variants}.get(entry)
    return next(iter(same or [v.entry for v in old.variants if v.name == variant]), entry)


def _smallest(before: list[bytes], base: bytes, span: tuple[int, int], data: bytes, most: int) -> _Made:
    """The smallest found stream of the operations `before` and of those, at most `most`, that make `data` from that span of the base."""
    start, length = span
    held = base[start : start + length]
    if held == data:
        return _made("unchanged", before + operations(base, data, [Stretch(length, start)]))
    tried: list[_Made] = []
    for found in alignments(held, data):
        if len(found.stretches) <= most:
            moved = [Stretch(s.length, None if s.like is None else s.like + start) for s in found.stretches]
            tried.append(_made(found.way, before + operations(base, data, moved)))
            if len(tried[-1].data) <= _GOOD_SHARE * len(data):
                break
    return min(tried or [_made("new", before + operations(base, data, [Stretch(len(data), None)]))], key=lambda made: len(made.data))


def _made(way: str, done: list[bytes]) -> _Made:
    return _Made(way, stream(done), len(done))
