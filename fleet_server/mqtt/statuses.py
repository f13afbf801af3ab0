"""Takes statuses off the MQTT thread and stores those of many devices together.

A status is retained by the broker, so it gets its PUBACK at once: what is lost with this process is delivered again on connecting. While the
database is slow the newest of a device takes the place of the one before, and nothing grows but with the number of devices.
"""

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime

from sqlalchemy.exc import OperationalError

from fleet_contract.messages import Status
from fleet_contract.mqtt import Backoff
from fleet_server.domain.statuses import instance
from fleet_server.errors import ServerError
from fleet_server.mqtt.counts import Count, Counts
from fleet_server.services.statuses import Said

log = logging.getLogger(__name__)

_MAX_DEVICES = 100_000
_MAX_OF_DEVICE = 16
"""Statuses of one device that wait because each tells of another instance of its agent."""
_GROUP_DEVICES = 500
_GATHER_S = 0.1
"""From one group to the next, unless more wait than one takes: a transaction costs as much for one device as for twenty."""

ObserveAll = Callable[[Sequence[Said]], Mapping[str, ServerError]]


class StatusIntake:
    """One thread between `offer` and `observe_all`, which takes all that it is given or raises."""

    def __init__(self, observe_all: ObserveAll, counts: Counts, now: Callable[[], datetime], backoff: Backoff = Backoff(0.2, 5.0)) -> None:
        self._observe_all, self._counts, self._now, self._backoff = observe_all, counts, now, backoff
        self._waiting: dict[str, list[Said]] = {}
        self._changed = threading.Condition()
        self._closing = threading.Event()
        self._group = _GROUP_DEVICES
        self._thread = threading.Thread(target=self._run, name="statuses", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self, timeout_s: float = 10.0) -> None:
        """What still waits is let go."""
        self._closing.set()
        with self._changed:
            self._changed.notify_all()
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def offer(self, device: str, status: Status) -> None:
        """Never blocks."""
        said = Said(device, status, self._now())
        with self._changed:
            if device not in self._waiting and len(self._waiting) >= _MAX_DEVICES:
                self._counts.trouble(Count.QUEUE_FULL, f"statuses of {_MAX_DEVICES} devices wait for the database")
                return
            self._waiting[device] = _joined([*self._waiting.get(device, []), said])
            self._changed.notify_all()

    def _run(self) -> None:
        attempt = 0
        while group := self._take():
            if self._store(group):
                attempt = 0
                if len(group) < self._group:
                    self._closing.wait(_GATHER_S)
            else:
                self._put_back(group)
                self._closing.wait(self._backoff.wait_s(attempt, lambda: 1.0))
                attempt += 1

    def _take(self) -> dict[str, list[Said]]:
        """Those who have waited longest; empty when this closes."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closing.is_set())
            if self._closing.is_set():
                return {}
            devices = [device for device, _ in zip(self._waiting, range(self._group), strict=False)]
            return {device: self._waiting.pop(device) for device in devices}

    def _put_back(self, group: Mapping[str, list[Said]]) -> None:
        with self._changed:
            self._waiting = {device: _joined([*said, *self._waiting.pop(device, [])]) for device, said in group.items()} | self._waiting

    def _store(self, group: Mapping[str, list[Said]]) -> bool:
        """False: try again."""
        try:
            refused = self._observe_all([each for said in group.values() for each in said])
        except (OSError, OperationalError) as error:
            log.error("the statuses of %d devices were not stored: %s", len(group), type(error).__name__)
            return False
        except Exception:  # noqa: BLE001 - what one device says must not end the loop of all
            return self._narrow(group)
        for error in refused.values():
            self._counts.trouble(Count.UNACCEPTABLE_STATUS, error)
        self._group = min(_GROUP_DEVICES, self._group * 2)
        return True

    def _narrow(self, group: Mapping[str, list[Said]]) -> bool:
        """One of them may be what the database cannot take: fewer together, until it is alone and let go."""
        if len(group) > 1:
            self._group = max(1, len(group) // 2)
            return False
        log.exception("the status of %s cannot be stored", *group)
        self._counts.add(Count.UNACCEPTABLE_STATUS)
        return True


def _joined(said: list[Said]) -> list[Said]:
    """The newest of each turn: of one instance, there or gone."""
    kept: list[Said] = []
    for each in said:
        if kept and _turn(kept[-1]) == _turn(each):
            kept.pop()
        kept.append(each)
    return kept[-_MAX_OF_DEVICE:]


def _turn(said: Said) -> tuple[bool, str]:
    return said.status.online, instance(said.status)
