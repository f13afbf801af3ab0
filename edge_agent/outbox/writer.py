"""The one thread that commits: everything that waits, in one transaction; again and again while the disk does not play along."""

import logging
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

from edge_agent.errors import Retry
from edge_agent.outbox.entries import Traced
from edge_agent.outbox.sealing import Packer
from edge_agent.outbox.shelf import Shelf
from edge_agent.outbox.staging import Staging, Work
from edge_agent.outbox.wear import Meter
from edge_agent.outbox.writing import pack

log = logging.getLogger(__name__)

_RETRY_S = 0.5


class _Committed(Protocol):
    def __call__(self, traced: dict[int, Traced], *, has_records: bool) -> None: ...


class Writer:
    """Tells `committed` of each commit, outside of all locks."""

    def __init__(self, shelf: Shelf, staging: Staging, committed: _Committed) -> None:
        self._shelf, self._staging, self._committed = shelf, staging, committed
        self._packer = Packer()
        self._thread = threading.Thread(target=self._run, name="outbox", daemon=True)
        self.start: Callable[[], None] = self._thread.start
        self.join: Callable[[], None] = self._thread.join

    def _run(self) -> None:
        meter = Meter()
        is_done = False
        while not is_done:
            work = self._staging.take()
            is_done = work.is_last
            try:
                self._turn(work, meter.since_last())
            except Retry as error:
                log.warning("%s", error)
                is_done = self._fail(work, error)
            except Exception as error:  # whoever waits must hear of it, and the next commit may work
                log.exception("a commit failed")
                is_done = self._fail(work, Retry(f"outbox: {error}", code="disk"))

    def _turn(self, work: Work, written_bytes: int) -> None:
        entries, parcels = pack(work.entries, self._packer)
        done = self._shelf.commit(replace(work, entries=entries), parcels, written_bytes)
        self._staging.commit(work)
        for job, found in zip(work.jobs, done.found, strict=True):
            job.ticket.found = found
            job.ticket.settle()
        for entry in work.entries:
            if entry.ticket is not None:
                entry.ticket.settle()
        self._committed(done.traced, has_records=any(entry.record_bytes for entry in work.entries))

    def _fail(self, work: Work, error: Retry) -> bool:
        """Whether that was all: who closes does not wait for the disk."""
        for ticket in [*self._staging.withdraw(), *(job.ticket for job in work.jobs)]:
            ticket.settle(error)
        if not work.is_closing:
            self._staging.pause(_RETRY_S)
            self._staging.remind()
        elif self._staging.held:
            log.error("%d submissions are lost: %s", self._staging.held, error)
        return work.is_closing
