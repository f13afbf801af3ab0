"""The work of an agent without a source: its models answer local applications alone."""

import threading

from edge_agent.monitor import tally
from edge_agent.pipeline import Observation
from edge_agent.ports import Store
from fleet_contract.order import SamplingCampaign


class Idle:
    """Stands where a Pipeline stands. What an earlier source gave stays counted."""

    def __init__(self, store: Store) -> None:
        counted = tally.from_mark(store.mark(tally.MARK))
        self._observation = Observation(inputs=counted.inputs, refused=counted.refused)

    def set_campaign(self, campaign: SamplingCampaign | None) -> None:
        """There is nothing to sample."""

    def observe(self) -> Observation:
        return self._observation

    def run(self, stop: threading.Event) -> None:
        stop.wait()
