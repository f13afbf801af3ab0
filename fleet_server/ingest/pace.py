"""How long commits wait when the compactor does not keep up: acknowledgements slow, and devices keep what they have."""

from dataclasses import dataclass

from fleet_contract import limits
from fleet_server.inbox.port import Backlog

_LONGEST_S = 1.0


@dataclass(frozen=True)
class Bounds:
    """Above either, acknowledgements slow; at twice that nothing more is taken until it is less."""

    backlog_bytes: int = 512 * limits.MIB
    backlog_s: float = 120.0


def wait_s(backlog: Backlog, bounds: Bounds, now_us: int) -> float | None:
    """Before the next commit: 0 within the bounds, growing to a second at twice the bounds. None: until the backlog is looked at again."""
    excess = max(backlog.bytes / bounds.backlog_bytes, backlog.age_s(now_us) / bounds.backlog_s) - 1
    return None if excess >= 1 else max(0.0, excess) * _LONGEST_S
