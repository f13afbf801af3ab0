"""Bring a target's blocks together: what an unfinished download or another bundle holds already, and the rest over the network."""

import hashlib
import io
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from edge_agent.errors import Retry
from edge_agent.ports import Fetched, FileFetcher, Held, Target, Wish
from fleet_contract.blocks import BlockIndex


class FetchDelivery:
    """Implements ports.Delivery one to one, as fast as the files come."""

    def __init__(self, files: FileFetcher) -> None:
        self._files = files

    def bring(self, target: Target, part: Path, held: Sequence[Held], wish: Wish) -> Fetched:
        return fetch(target, part, [one.path for one in held], self._files)


def fetch(target: Target, part: Path, sources: Sequence[Path], files: FileFetcher) -> Fetched:
    """`part` holds the whole target afterwards, durably; if not, what it holds is used the next time.

    Every block is checked against the signed index, those of an unfinished download too: after a power cut no bitmap could vouch for them.
    Raises Retry (network, disk, only wrong blocks came) or Reject (the server has no such file).
    """
    index = target.index
    try:
        with _open(part) as file:
            file.truncate(index.length)
            need = {number for number in range(index.count) if not index.matches(number, _read(file, index, number))}
            for source in sources:
                _reuse(index, need, source, file)
            reused = index.length - _size(index, need)
            _download(target, need, files, file)
            os.fsync(file.fileno())
    except OSError as error:
        raise Retry(f"{part}: {error}", code="disk") from error
    return Fetched(fetched_bytes=index.length - reused, reused_bytes=reused)


def _open(part: Path) -> io.FileIO:
    return io.FileIO(os.open(part, os.O_RDWR | os.O_CREAT, 0o600), "r+")


def _read(file: io.FileIO, index: BlockIndex, number: int) -> bytes:
    start, length = index.span(number)
    return os.pread(file.fileno(), length, start)


def _write(file: io.FileIO, index: BlockIndex, number: int, data: bytes) -> None:
    view = memoryview(data)
    start, _ = index.span(number)
    while view:
        done = os.pwrite(file.fileno(), view, start)
        view, start = view[done:], start + done


def _reuse(index: BlockIndex, need: set[int], source: Path, file: io.FileIO) -> None:
    wanted: dict[bytes, list[int]] = {}
    for number in need:
        wanted.setdefault(index.digest(number), []).append(number)
    for data in _chunks(source, index.block_bytes) if need else ():
        for number in wanted.get(hashlib.sha256(data).digest(), ()):
            if index.matches(number, data):
                _write(file, index, number, data)
                need.discard(number)


def _chunks(source: Path, size: int) -> Iterator[bytes]:
    with source.open("rb") as file:
        while data := file.read(size):
            yield data


def _download(target: Target, need: set[int], files: FileFetcher, file: io.FileIO) -> None:
    while need:
        before = len(need)
        for number, data in files.blocks(target.fetch_path, target.index.block_bytes, sorted(need)):
            if number in need and target.index.matches(number, data):
                _write(file, target.index, number, data)
                need.discard(number)
        if len(need) == before:
            raise Retry(f"no right block of {target.path} came", code="bad-block")


def _size(index: BlockIndex, numbers: set[int]) -> int:
    return sum(index.span(number)[1] for number in numbers)
