"""Takes records off the MQTT thread, commits them in groups, and acknowledges what is stored.

The PUBACK follows the commit, so the broker's credit (receive maximum) makes devices wait when the database is slow.
"""

import logging
import queue
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import groupby

from fleet_contract import limits
from fleet_contract.messages import Ack, Batch
from fleet_contract.mqtt import Backoff
from fleet_server.mqtt.counts import Count, Counts

log = logging.getLogger(__name__)

_MAX_WAITING = 1_000
_GROUP_MESSAGES = 64
_GROUP_BYTES = 2 * limits.MIB
_ATTEMPTS = 4
_IDLE_S = 0.2

Store = Callable[[list[tuple[str, Batch]]], list[tuple[str, Ack]]]
SendAck = Callable[[str, Ack], None]


@dataclass(frozen=True)
class Arrival:
    """A message from an authenticated device. `puback` may be called once, from any thread."""

    device: str
    message: Batch
    size: int
    puback: Callable[[], None]


class Ingest:
    """One thread between `offer` and the database. `store` commits all batches or raises."""

    def __init__(self, store: Store, send_ack: SendAck, counts: Counts, backoff: Backoff = Backoff(0.2, 5.0)) -> None:
        self._store, self._send_ack, self._counts, self._backoff = store, send_ack, counts, backoff
        self._arrivals: queue.Queue[Arrival] = queue.Queue(_MAX_WAITING)
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="ingest", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self, timeout_s: float = 10.0) -> None:
        """Finish what was taken; what still waits stays unacknowledged, and comes again."""
        self._closing.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def offer(self, arrival: Arrival) -> None:
        """Never blocks. With a full queue the message is let go without an Ack: the device sends it again."""
        try:
            self._arrivals.put_nowait(arrival)
        except queue.Full:
            self._counts.trouble(Count.QUEUE_FULL, f"{_MAX_WAITING} messages wait for the database")
            arrival.puback()

    def _run(self) -> None:
        while not self._closing.is_set():
            group = self._take()
            if group and not self._commit(group):
                # One of them may be what the database cannot take: each on its own, so that the others are not held up.
                for arrival in group:
                    self._insist(arrival)

    def _take(self) -> list[Arrival]:
        try:
            group = [self._arrivals.get(timeout=_IDLE_S)]
        except queue.Empty:
            return []
        size = group[0].size
        while len(group) < _GROUP_MESSAGES and size < _GROUP_BYTES:
            try:
                group.append(self._arrivals.get_nowait())
            except queue.Empty:
                break
            size += group[-1].size
        return group

    def _commit(self, group: list[Arrival]) -> bool:
        try:
            acks = self._store([(arrival.device, arrival.message) for arrival in group])
        except Exception as error:  # noqa: BLE001 - whatever spoils one commit, the loop of all devices goes on
            log.error("storing %d batches failed: %s", len(group), _brief(error))
            return False
        for arrival in group:
            arrival.puback()
        self._counts.add(Count.ACKNOWLEDGED, len(acks))
        if len(acks) < len(group):
            self._counts.trouble(Count.NOT_STORED, f"a batch of {group[0].device} or another device with it was rejected")
        for device, ack in merge(acks):
            self._send_ack(device, ack)
        return True

    def _insist(self, arrival: Arrival) -> None:
        for attempt in range(_ATTEMPTS):
            if self._commit([arrival]):
                return
            if self._closing.wait(self._backoff.wait_s(attempt, lambda: 1.0)):
                return
        self._counts.trouble(Count.NOT_STORED, f"a batch of {arrival.device} could not be stored")
        arrival.puback()


def merge(acks: Iterable[tuple[str, Ack]]) -> list[tuple[str, Ack]]:
    """One Ack for each device, epoch and lane, its ranges joined where they touch."""

    def key(item: tuple[str, Ack]) -> tuple[str, str, str]:
        return item[0], item[1].epoch, item[1].lane.value

    merged = []
    for (device, epoch, _), group in groupby(sorted(acks, key=key), key=key):
        same = [ack for _, ack in group]
        ranges = _join(sorted(r for ack in same for r in ack.ranges))
        merged.append((device, Ack(epoch=epoch, lane=same[0].lane, ranges=ranges)))
    return merged


def _join(ranges: list[tuple[int, int]]) -> list[tuple[int, int]]:
    joined: list[tuple[int, int]] = []
    for first, last in ranges:
        if joined and first <= joined[-1][1] + 1:
            joined[-1] = (joined[-1][0], max(last, joined[-1][1]))
        else:
            joined.append((first, last))
    return joined


def _brief(error: Exception) -> str:
    """Without the statement and its parameters, which may hold what devices recorded."""
    return f"{type(error).__name__}: {str(getattr(error, 'orig', None) or error).splitlines()[0][:300] if str(error) else ''}"
