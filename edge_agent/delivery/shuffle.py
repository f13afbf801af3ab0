"""Blocks of a file's former content, moved in place to where the new content wants them."""

import hashlib
import os
from collections import Counter

from fleet_contract.blocks import BlockIndex


def settle(file: int, size: int, index: BlockIndex) -> set[int]:
    """The blocks of `index` that are in their place afterwards, out of the first `size` bytes of the file. One block is in memory at a time.

    A kill in the middle costs the blocks that were overwritten, nothing else: the next call looks again. Blocks that wait for each other in a
    circle stay lacking. Raises OSError.
    """
    found = [hashlib.sha256(_read(file, index, at)).digest() for at in range(-(-size // index.block_bytes))]
    present = {at for at, digest in enumerate(found[: index.count]) if digest == index.digest(at)}
    where = {digest: at for at, digest in enumerate(found)}
    moves = {to: where[index.digest(to)] for to in range(index.count) if to not in present and index.digest(to) in where}
    readers = Counter(moves.values())
    ready = [to for to in moves if not readers[to]]
    while ready:
        to = ready.pop()
        at = moves.pop(to)
        data = _read(file, index, at)[: index.span(to)[1]]
        if index.matches(to, data):
            write(file, data, index.span(to)[0])
            present.add(to)
        readers[at] -= 1
        if not readers[at] and at in moves:
            ready.append(at)
    return present


def write(file: int, data: bytes, start: int) -> None:
    """All of it. Raises OSError."""
    view = memoryview(data)
    while view:
        done = os.pwrite(file, view, start)
        view, start = view[done:], start + done


def _read(file: int, index: BlockIndex, at: int) -> bytes:
    """As long as the block that belongs there; a whole one where none does."""
    length = index.span(at)[1] if at < index.count else index.block_bytes
    return os.pread(file, length, at * index.block_bytes)
