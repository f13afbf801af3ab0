"""The agent's Status: for the server over MQTT, and for a person in status.json."""

import logging
import math
from collections.abc import Callable
from pathlib import Path

import msgspec

from edge_agent import __version__
from edge_agent.delivery.downloads import Download
from edge_agent.pipeline import Observation
from edge_agent.ports import Clock, Store
from edge_agent.storage import atomic
from edge_agent.update.state import State
from fleet_contract.messages import ClockState, Status

log = logging.getLogger(__name__)

_USUAL_HEARTBEAT_S = 60.0


class Observer:
    """`observe` may be called from any thread; it reads, and waits for nothing but the store's lock."""

    def __init__(
        self,
        profile: str,
        store: Store,
        clock: Clock,
        *,
        instance: str,
        state: Callable[[], State],
        work: Callable[[], Observation],
        trouble: Callable[[], str | None],
        shadow: Callable[[], str | None],
        trust: Callable[[], ClockState],
        heartbeat_s: float = 0.0,
    ) -> None:
        self._profile, self._store, self._clock = profile, store, clock
        self._instance = instance
        self._state, self._work, self._trouble = state, work, trouble
        self._shadow, self._trust = shadow, trust
        self._heartbeat_s = math.ceil(heartbeat_s) if heartbeat_s > _USUAL_HEARTBEAT_S else msgspec.UNSET

    def observe(self) -> Status:
        state, work = self._state(), self._work()
        active = state.active
        return Status(
            at=self._clock.now(),
            online=True,
            epoch=self._store.epoch,
            agent_version=__version__,
            profile=self._profile,
            bundle=active.sha256 if active else None,
            bundle_version=active.version if active else None,
            phase=state.phase.value,
            order_counter=state.counter,
            inputs=work.inputs,
            refused=dict(work.refused),
            ledger=self._store.ledger(),
            error=self._trouble() or state.error,
            instance=self._instance,
            shadow=self._shadow() or msgspec.UNSET,
            clock=self._trust(),
            disk=self._store.disk(),
            heartbeat_s=self._heartbeat_s,
        )


class Downloading(msgspec.Struct, frozen=True):
    """How far a download is, in steps of ten percent."""

    path: str
    way: str
    percent: int
    length_bytes: int


def downloading(download: Download | None) -> Downloading | None:
    if download is None:
        return None
    tenths = 10 * download.done_bytes // max(1, download.length_bytes)
    return Downloading(download.path, download.way, 10 * tenths, download.length_bytes)


class Report(msgspec.Struct, frozen=True):
    """status.json: what only the running agent knows. `error` is why an update does not go on just now; `serving` are the addresses at which
    local applications find the models."""

    pid: int
    connected: bool
    broker: str
    protocol: str
    source: str
    error: str | None = None
    download: Downloading | None = None
    serving: tuple[str, ...] = ()


class StatusFile:
    """Written when something in it changed, not at every heartbeat: flash wears."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._last: Report | None = None

    def show(self, report: Report) -> None:
        if report == self._last:
            return
        try:
            atomic.write(self._path, msgspec.json.format(msgspec.json.encode(report), indent=1))
            self._last = report
        except OSError as error:
            log.warning("%s: %s", self._path, error)
