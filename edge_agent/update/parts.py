"""What an update works with."""

from dataclasses import dataclass

from edge_agent.delivery.ports import Delivery
from edge_agent.ports import Clock, Guest, Host, Store
from edge_agent.storage.journal import Journal
from edge_agent.trust.client import Trust
from edge_agent.update.inbox import Inbox
from edge_agent.update.probation import Terms
from edge_agent.update.requests import Requests
from edge_agent.update.slots import Slots
from edge_agent.update.state import State


@dataclass(frozen=True)
class Parts:
    """`recheck_s` is how often the installed bundles are compared with their digests."""

    profile: str
    journal: Journal[State]
    slots: Slots
    inbox: Inbox
    trust: Trust
    delivery: Delivery
    host: Host
    guest: Guest
    store: Store
    clock: Clock
    requests: Requests
    terms: Terms
    recheck_s: float = 3_600.0
