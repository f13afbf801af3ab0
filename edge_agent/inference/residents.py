"""The device's own bundles, brought up beside everything else: one that cannot be is told of, and the others serve."""

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from edge_agent.errors import AgentError, Retry
from edge_agent.inference.host import InferenceHost
from edge_agent.inference.pinned import Pinned, open_pinned
from edge_agent.ports import Clock
from fleet_contract.messages import Event

log = logging.getLogger(__name__)

_RETRY_S = 30.0
_MAX_MESSAGE_CHARS = 300


@dataclass(frozen=True)
class Resident:
    """A bundle of this device's own and the host that shall run it."""

    name: str
    pinned: Pinned
    host: InferenceHost

    def open(self) -> None:
        """Returns once its worker answers. Raises Fatal for another bundle than is meant, or what InferenceHost.activate raises."""
        self.host.activate(open_pinned(self.pinned))


class Residents:
    """Opens them in a thread of its own, again after a while where the world was not ready."""

    def __init__(self, residents: Sequence[Resident], record: Callable[[Event], None], clock: Clock, *, retry_s: float = _RETRY_S) -> None:
        self._waiting = list(residents)
        self._record = record
        self._clock = clock
        self._retry_s = retry_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, name="residents", daemon=True)

    def start(self) -> None:
        if self._waiting:
            self._thread.start()

    def close(self) -> None:
        """Waits for the one that is being opened."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def _work(self) -> None:
        while self._waiting and not self._stop.is_set():
            self._waiting = [resident for resident in self._waiting if not self._settled(resident)]
            if self._waiting:
                self._stop.wait(self._retry_s)

    def _settled(self, resident: Resident) -> bool:
        if self._stop.is_set():
            return True
        try:
            resident.open()
        except Retry as error:
            log.warning("model %s: %s", resident.name, error)
            return False
        except AgentError as error:
            log.error("model %s is not served: %s", resident.name, error)
            self._tell("local.refused", model=resident.name, code=error.code, message=str(error)[:_MAX_MESSAGE_CHARS])
            return True
        model = resident.host.active()
        if model is not None:
            log.info("model %s: version %s answers", resident.name, model.manifest.version)
            self._tell("local.serving", model=resident.name, bundle=model.sha256, version=model.manifest.version)
        return True

    def _tell(self, kind: str, **detail: str) -> None:
        try:
            self._record(Event(at=self._clock.now(), kind=kind, detail=dict(detail)))
        except Retry as error:
            log.warning("the server will not hear of %s: %s", kind, error)
