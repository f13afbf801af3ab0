"""What runs beside the active bundle, held to what the journal wants of it."""

import logging
from collections.abc import Callable
from dataclasses import dataclass

from edge_agent.errors import AgentError, Reject
from edge_agent.update import acts, reports
from edge_agent.update.parts import Parts
from edge_agent.update.phases import Step
from edge_agent.update.slots import DAMAGED
from edge_agent.update.state import Installed

log = logging.getLogger(__name__)

_RETRY_S = 60.0


@dataclass(frozen=True)
class _Failure:
    sha256: str
    code: str
    at_s: float


class Company:
    """Of the update thread. A shadow that does not start holds nothing up: it is told of once, and tried again after a while."""

    def __init__(self, parts: Parts, report: Callable[[str, reports.Detail], None]) -> None:
        self._parts, self._report = parts, report
        self._failure: _Failure | None = None

    def keep(self, wanted: Installed | None) -> Reject | None:
        """End what runs and is not wanted; start what is. Returns the damage of its slot, if that is why it cannot be."""
        guest = self._parts.guest
        running = guest.running()
        if running is not None and (wanted is None or running != wanted.sha256):
            log.info("bundle %s runs beside the active one no more", running[:12])
            guest.end()
        if wanted is None or running == wanted.sha256 or self._waits(wanted):
            return None
        try:
            acts.accompany(self._parts, wanted)
        except AgentError as error:
            if error.code in DAMAGED and isinstance(error, Reject):
                return error
            self._note(wanted, error)
        return None

    def _waits(self, wanted: Installed) -> bool:
        failed = self._failure
        return failed is not None and failed.sha256 == wanted.sha256 and self._parts.clock.monotonic_s() < failed.at_s + _RETRY_S

    def _note(self, wanted: Installed, error: AgentError) -> None:
        log.warning("bundle %s does not start beside the active one (%s): %s", wanted.sha256[:12], error.code, error)
        before = self._failure
        known = before is not None and (before.sha256, before.code) == (wanted.sha256, error.code)
        if isinstance(error, Reject) and not known:
            self._report("shadow.refused", reports.about(wanted, Step.SHADOWED) | reports.reasons(error))
        self._failure = _Failure(wanted.sha256, error.code, self._parts.clock.monotonic_s())
