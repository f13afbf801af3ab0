"""Two devices with one identity and one outbox, seen by what they record. Pure.

A batch is sealed: sent again it is the same, byte for byte. And a lane's numbers are given in order, so each run of a device (`boot`) has a stretch
of them for itself, in whatever order its batches come.
"""

from collections import OrderedDict
from zlib import crc32

from fleet_contract.messages import Batch

_MAX_BATCHES = 65_536
_MAX_BOOTS = 16
_MAX_STREAMS = 65_536

_Stream = tuple[str, str, str]


class Memory:
    """Of the newest batches and boots of every stream, as many as fit: it may miss a twin, and accuses nobody who has none."""

    def __init__(self, max_batches: int = _MAX_BATCHES, max_streams: int = _MAX_STREAMS) -> None:
        self._max_batches, self._max_streams = max_batches, max_streams
        self._digests: OrderedDict[tuple[_Stream, int], tuple[int, int]] = OrderedDict()
        self._boots: OrderedDict[_Stream, OrderedDict[str, tuple[int, int]]] = OrderedDict()

    def see(self, device: str, batch: Batch) -> str | None:
        """Take note of a batch; what is wrong when it cannot come from the device that sent those before."""
        stream, last = (device, batch.epoch, batch.lane.value), batch.last
        if not self._is_same((stream, batch.first), (last, crc32(batch.data))):
            return f"{batch.lane.value} {batch.first} to {last} came twice, with other content"
        other = self._interleaves(stream, batch.boot, batch.first, last)
        return f"{batch.lane.value} {batch.first} to {last} lies between numbers that another run ({other}) gave" if other else None

    def _is_same(self, key: tuple[_Stream, int], digest: tuple[int, int]) -> bool:
        known = self._digests.setdefault(key, digest)
        if known is not digest:
            self._digests[key] = digest
            self._digests.move_to_end(key)
        elif len(self._digests) > self._max_batches:
            self._digests.popitem(last=False)
        return known == digest

    def _interleaves(self, stream: _Stream, boot: str, first: int, last: int) -> str | None:
        """The other boot."""
        boots = self._boots.get(stream)
        if boots is None:
            boots = self._boots[stream] = OrderedDict()
            if len(self._boots) > self._max_streams:
                self._boots.popitem(last=False)
        self._boots.move_to_end(stream)
        low, high = boots.get(boot, (first, last))
        low, high = boots[boot] = (min(low, first), max(high, last))
        if len(boots) == 1:
            return None
        if len(boots) > _MAX_BOOTS:
            boots.popitem(last=False)
        return next((other for other, span in boots.items() if other != boot and span[0] <= high and low <= span[1]), None)
