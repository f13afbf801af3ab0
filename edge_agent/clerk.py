"""Records what local applications asked, in a thread of its own: the same books as a source's inputs, in other windows."""

import logging
import threading
from collections.abc import Callable, Mapping, Sequence

from edge_agent.monitor.books import Books
from edge_agent.monitor.served import Served, apart
from edge_agent.monitor.tray import Tray
from edge_agent.patience import Stopped
from fleet_contract.order import SamplingCampaign

log = logging.getLogger(__name__)

FAILED = "record-failed"
_LOOK_S = 1.0
"""Refusals that fall due and new campaigns are seen so late, where nobody asks."""


class Clerk:
    """Works from its making until `close`."""

    def __init__(self, tray: Tray, books: Books, gather_s: float, asked: Callable[[], SamplingCampaign | None]) -> None:
        """What comes within `gather_s` is committed together; `asked` is the newest order's campaign."""
        self._tray, self._books = tray, books
        self._gather_s, self._asked = gather_s, asked
        self._thread = threading.Thread(target=self._run, name="clerk", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """What lies in the tray is recorded first, if the store takes it now."""
        self._tray.close()
        self._thread.join()

    def _run(self) -> None:
        is_last = False
        while not is_last:
            is_last = self._tray.wait(_LOOK_S, self._gather_s)
            served, lost = self._tray.empty()
            try:
                for part in apart(served) or [[]]:
                    self._try(part, lost)
                    lost = {}
            except Stopped:
                return

    def _try(self, served: Sequence[Served], lost: Mapping[str, int]) -> None:
        """Raises Stopped."""
        try:
            self._record(served, lost)
        except Stopped:
            raise
        except Exception:  # an answer of an unforeseen form costs those beside it their records, not the agent
            log.exception("%d requests are not recorded", len(served))
            self._tray.refuse(FAILED, sum(one.rows for one in served))
            for reason, count in lost.items():
                self._tray.refuse(reason, count)

    def _record(self, served: Sequence[Served], lost: Mapping[str, int]) -> None:
        if served:
            self._books.enter_served(served, lost)
        else:
            self._books.rest(lost)
        self._books.sample(self._asked(), exhausted=False)
