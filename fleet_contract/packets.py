"""Blocks in messages: grouped, compressed together, opened under a bound that the sender cannot move."""

from collections.abc import Iterable, Iterator

from fleet_contract import compression, limits
from fleet_contract.errors import BadBlocks
from fleet_contract.messages import Packet


def pack(request: str, length: int, block_bytes: int, blocks: Iterable[tuple[int, bytes]], *, first: int = 0) -> Iterator[Packet]:
    """The blocks (number, bytes) of a file of `length` bytes in as few packets as may be, in their order; `first` numbers the first packet."""
    sequence, numbers, group, size = first, [], [], 0
    for number, data in blocks:
        if group and (size + len(data) > limits.MAX_PACKET_BYTES or len(numbers) == limits.MAX_BLOCKS_PER_PACKET):
            yield _packet(request, sequence, length, block_bytes, numbers, b"".join(group))
            sequence, numbers, group, size = sequence + 1, [], [], 0
        numbers.append(number)
        group.append(data)
        size += len(data)
    if group:
        yield _packet(request, sequence, length, block_bytes, numbers, b"".join(group))


def unpack(packet: Packet, block_bytes: int) -> list[tuple[int, bytes]]:
    """The blocks inside, cut on the grid that was asked for; not compared with any digest. Memory stays within MAX_PACKET_BYTES.
    Raises BadBlocks."""
    if packet.block_bytes != block_bytes:
        raise BadBlocks(f"a packet of {packet.block_bytes}-byte blocks where {block_bytes} were asked for", field="block_bytes")
    if not 1 <= len(packet.numbers) <= limits.MAX_BLOCKS_PER_PACKET or packet.length > limits.MAX_BUNDLE_BYTES:
        raise BadBlocks(f"a packet of {len(packet.numbers)} blocks", field="numbers", limit=limits.MAX_BLOCKS_PER_PACKET)
    sizes = [min(block_bytes, packet.length - number * block_bytes) for number in packet.numbers]
    if min(sizes) < (1 if packet.length else 0) or sum(sizes) > limits.MAX_PACKET_BYTES:
        raise BadBlocks(f"blocks {packet.numbers} of a file of {packet.length} bytes", field="numbers", limit=limits.MAX_PACKET_BYTES)
    try:
        data = compression.decompress(packet.codec, packet.data, sum(sizes))
    except compression.BadCompression as error:
        raise BadBlocks(f"a packet that {error}", field="data", limit=limits.MAX_PACKET_BYTES) from error
    found, at = [], 0
    for number, size in zip(packet.numbers, sizes, strict=True):
        found.append((number, data[at : at + size]))
        at += size
    return found


def _packet(request: str, sequence: int, length: int, block_bytes: int, numbers: list[int], data: bytes) -> Packet:
    codec, body = compression.compress(data)
    return Packet(request, sequence, length, block_bytes, numbers, codec, body)
