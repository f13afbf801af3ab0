"""Packets made of repository files; those of metadata are kept, so that a whole fleet's polls cost one reading."""

from collections import OrderedDict
from collections.abc import Iterator, Sequence

import msgspec

from fleet_contract import limits, packets
from fleet_contract.messages import Packet
from fleet_server.mqtt.wants import Grid

_MAX_KEPT_BYTES = 8 * limits.MIB
_PACKET_OVERHEAD_BYTES = 512
_METADATA = "metadata/"
_Key = tuple[Grid, int, int, tuple[int, ...]]


class Answers:
    """For one thread. Keeps at most _MAX_KEPT_BYTES, the latest used; what was kept of a file is forgotten when its size, time or inode changes."""

    def __init__(self) -> None:
        self._kept: OrderedDict[_Key, list[Packet]] = OrderedDict()
        self._kept_bytes = 0

    def packets(self, request: str, grid: Grid, numbers: Sequence[int]) -> Iterator[Packet]:
        """The blocks, in order. Raises OSError when the file cannot be read."""
        if not grid.path.startswith(_METADATA):
            yield from _pack(request, grid, numbers)
            return
        stat = grid.file.stat()
        key = (grid, stat.st_mtime_ns, stat.st_ino, tuple(numbers))
        if key not in self._kept:
            self._keep(key, [*_pack("", grid, numbers)])
        self._kept.move_to_end(key)
        for packet in self._kept[key]:
            yield msgspec.structs.replace(packet, request=request)

    def _keep(self, key: _Key, made: list[Packet]) -> None:
        self._kept[key] = made
        self._kept_bytes += _size(made)
        while self._kept_bytes > _MAX_KEPT_BYTES:
            self._kept_bytes -= _size(self._kept.popitem(last=False)[1])


def _size(made: list[Packet]) -> int:
    return sum(len(packet.data) + _PACKET_OVERHEAD_BYTES for packet in made)


def _pack(request: str, grid: Grid, numbers: Sequence[int]) -> Iterator[Packet]:
    with grid.file.open("rb") as file:

        def read(number: int) -> tuple[int, bytes]:
            file.seek(number * grid.block_bytes)
            return number, file.read(grid.block_bytes)

        yield from packets.pack(request, grid.length, grid.block_bytes, map(read, numbers))
