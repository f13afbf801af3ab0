"""`python -m tests.fakes.agent_download_process WAY FOLDER BYTES`: one download of a made-up file into FOLDER, over WAY, in a process of its own.

Writes a line to FOLDER/asked before each request is answered, a dot to stdout whenever it is asked whether the download is still wanted, and at the end
how much memory the process held at its beginning and at most, in KiB.
"""

import hashlib
import os
import sys
from pathlib import Path

from edge_agent.clock import SystemClock
from edge_agent.delivery.ports import Target
from fleet_contract.blocks import BlockIndex, block_bytes_for, from_bitmap
from fleet_contract.messages import FromDevice, Want
from tests.fakes.agent_downloads import device
from tests.fakes.agent_file_service import Website, by_range

_PATTERN_BYTES = 4096


class MadeUp:
    """A file of any length that takes no memory: each 4 KiB tell their place."""

    def __init__(self, length: int) -> None:
        self._length = length

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, part: slice) -> bytes:
        start, stop, _ = part.indices(self._length)
        first = start // _PATTERN_BYTES
        pages = b"".join(number.to_bytes(8, "big") * (_PATTERN_BYTES // 8) for number in range(first, -(-stop // _PATTERN_BYTES)))
        return pages[start - first * _PATTERN_BYTES : stop - first * _PATTERN_BYTES]


def target_of(data: MadeUp) -> Target:
    size, whole, digests = block_bytes_for(len(data)), hashlib.sha256(), []
    for start in range(0, len(data), size):
        block = data[start : start + size]
        whole.update(block)
        digests.append(hashlib.sha256(block).digest())
    return Target("bundles/toy-1.bundle", whole.hexdigest(), len(data), BlockIndex(len(data), size, b"".join(digests)))


def main(way: str, folder: Path, length: int) -> None:
    data = MadeUp(length)
    target = target_of(data)
    asked = os.open(folder / "asked", os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def note(numbers: list[int]) -> bool:
        os.write(asked, b"".join(b"%d\n" % number for number in numbers))
        return False

    def website(request: Website, data: bytes, first: int, last: int) -> None:
        note(list(range(first // target.index.block_bytes, last // target.index.block_bytes + 1)))
        by_range(request, data, first, last)

    def wanted() -> bool:
        os.write(sys.stdout.fileno(), b".")
        return True

    def answer(message: FromDevice) -> bool:
        return isinstance(message, Want) and note(from_bitmap(message.need))

    with device(way, {target.fetch_path: data}, folder, clock=SystemClock()) as dev:  # type: ignore[dict-item]
        dev.service.answer, dev.service.website = answer, website
        before = _memory_kib("VmRSS:")
        dev.bring(target, wanted=wanted)
    os.write(sys.stdout.fileno(), b"\n%d %d\n" % (before, _memory_kib("VmHWM:")))
    os.close(asked)


def _memory_kib(field: str) -> int:
    return int(Path("/proc/self/status").read_text().partition(field)[2].split()[0])


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
