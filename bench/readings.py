"""The machine's clocks as the agent's outbox reads them, taken on trust."""

from datetime import UTC, datetime

from edge_agent.clock import uptime_us
from edge_agent.ports import Reading


def read() -> Reading:
    return Reading(datetime.now(UTC), uptime_us(), "bench", "trusted")
