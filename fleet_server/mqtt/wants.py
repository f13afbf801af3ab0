"""What a Want asks for, held to the contract's bounds. Pure."""

from dataclasses import dataclass
from pathlib import Path

from fleet_contract import blocks, limits, topics
from fleet_contract.messages import Refusal, Want, WantUrl

MAX_REQUEST_CHARS = 64
_TARGETS = "targets/"


class Refused(Exception):
    """Becomes the Refusal of this code."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(reason)
        self.code = code


def refusal(request: str, refused: Refused) -> Refusal:
    return Refusal(request[:MAX_REQUEST_CHARS], refused.code, str(refused))


@dataclass(frozen=True)
class Grid:
    """A repository file of `length` bytes, by the path that devices ask for and the one it has here, cut into blocks."""

    path: str
    file: Path
    length: int
    block_bytes: int

    @property
    def count(self) -> int:
        return -(-self.length // self.block_bytes)

    @property
    def topic(self) -> str:
        return topics.shared(self.path, self.block_bytes)


def check(want: Want | WantUrl) -> None:
    """What can be said before the file is looked at. Raises Refused."""
    if not 1 <= len(want.request) <= MAX_REQUEST_CHARS:
        raise Refused("bad-request", f"a request id has 1 to {MAX_REQUEST_CHARS} characters")
    if isinstance(want, WantUrl):
        return
    if not limits.MIN_BLOCK_BYTES <= want.block_bytes <= limits.MAX_BLOCK_BYTES:
        raise Refused("bad-request", f"block_bytes must be {limits.MIN_BLOCK_BYTES} to {limits.MAX_BLOCK_BYTES}")
    wanted = int.from_bytes(want.need, "little").bit_count()
    if want.shared is not True and wanted > limits.MAX_BLOCKS_PER_REQUEST:
        raise Refused("too-large", f"{wanted} blocks wanted, at most {limits.MAX_BLOCKS_PER_REQUEST} a request")


def numbers(want: Want, grid: Grid) -> list[int]:
    """The wanted blocks that exist, ascending. Raises Refused when there is none."""
    found = [number for number in blocks.from_bitmap(want.need[: -(-grid.count // 8)]) if number < grid.count]
    if not found:
        raise Refused("bad-request", f"none of the wanted blocks exists, the file has {grid.count}")
    return found


def shared_bits(want: Want, grid: Grid) -> int:
    """The wanted blocks that exist, as the bits of a number. Raises Refused when there is none, or when this is not the grid of a signed index:
    each other grid would be a pass of its own."""
    if not want.path.startswith(_TARGETS):
        raise Refused("bad-request", f"only files below {_TARGETS} are shared: ask for this one alone")
    if want.block_bytes != blocks.block_bytes_for(grid.length):
        raise Refused("bad-request", f"block_bytes of a shared pass over this file is {blocks.block_bytes_for(grid.length)}")
    bits = int.from_bytes(want.need[: -(-grid.count // 8)], "little") & ((1 << grid.count) - 1)
    if not bits:
        raise Refused("bad-request", f"none of the wanted blocks exists, the file has {grid.count}")
    return bits
