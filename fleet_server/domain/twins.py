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
        stream = (device, batch.epoch, batch.lane.value)
        if not self._is_same(stream, batch):
            return f"{batch.lane.value} {batch.first} to {batch.last} came twice, with other content"
        other = self._interleaves(stream, batch)
        return f"{batch.lane.value} {batch.first} to {batch.last} lies between numbers that another run ({other}) gave" if other else None

    def _is_same(self, stream: _Stream, batch: Batch) -> bool:
        key, digest = (stream, batch.first), (batch.last, crc32(batch.data))
        known = self._digests.pop(key, digest)
        self._digests[key] = digest
        if len(self._digests) > self._max_batches:
            self._digests.popitem(last=False)
        return known == digest

    def _interleaves(self, stream: _Stream, batch: Batch) -> str | None:
        """The other boot."""
        boots = self._boots.pop(stream, None) or OrderedDict()
        self._boots[stream] = boots
        if len(self._boots) > self._max_streams:
            self._boots.popitem(last=False)
        low, high = boots.get(batch.boot, (batch.first, batch.last))
        mine = boots[batch.boot] = (min(low, batch.first), max(high, batch.last))
        if len(boots) > _MAX_BOOTS:
            boots.popitem(last=False)
        return next((boot for boot, (first, last) in boots.items() if boot != batch.boot and first <= mine[1] and mine[0] <= last), None)
