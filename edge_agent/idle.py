"""The work of an agent without a source: its models answer local applications alone."""

import threading
from collections.abc import Sequence
from contextlib import closing

from edge_agent.clerk import Clerk
from edge_agent.monitor.books import Books
from edge_agent.monitor.tray import Tray
from edge_agent.patience import Patience
from edge_agent.pipeline import Observation, Pace
from edge_agent.ports import Clock, Sink, Store
from fleet_contract.order import SamplingCampaign


class Idle:
    """Stands where a Pipeline stands. What an earlier source gave stays counted."""

    def __init__(self, store: Store, clock: Clock, pace: Pace = Pace(), sinks: Sequence[Sink] = (), tray: Tray | None = None) -> None:
        """Without a `tray` nothing is recorded."""
        self._patience = Patience(pace.retry_s, pace.max_retry_s)
        self._books = Books(store, clock, pace.manners, self._patience.pause, sinks)
        self._gather_s = pace.manners.gather_s
        self._tray = tray
        self._campaign: SamplingCampaign | None = None

    def set_campaign(self, campaign: SamplingCampaign | None) -> None:
        """What the newest order asks to sample."""
        self._campaign = campaign

    def observe(self) -> Observation:
        counted = self._books.tally
        return Observation(counted.inputs, counted.refused, campaign=self._books.campaign)

    def run(self, stop: threading.Event) -> None:
        self._patience.begin(stop)
        if self._tray is None:
            stop.wait()
            return
        with closing(Clerk(self._tray, self._books, self._gather_s, lambda: self._campaign)):
            stop.wait()
