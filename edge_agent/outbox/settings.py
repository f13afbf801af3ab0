"""What the outbox may take of the disk and of memory, and how soon it commits: the `[outbox]` table of the device file."""

from typing import Annotated

import msgspec

from fleet_contract.lanes import Lane
from fleet_contract.limits import KIB, MIB

_Share = Annotated[float, msgspec.Meta(ge=0, le=1)]


class Shares(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Of `max_bytes`, what no other lane can take from a lane that needs it. What a lane leaves unused, the others may use."""

    events: _Share = 0.2
    sketches: _Share = 0.2
    telemetry: _Share = 0.4
    samples: _Share = 0.1

    def __post_init__(self) -> None:
        if (total := self.events + self.sketches + self.telemetry + self.samples) > 1:
            raise ValueError(f"shares: they are {total:g} together, at most 1")

    def of(self, lane: Lane) -> float:
        return getattr(self, lane.value)


class OutboxSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`max_bytes` may wait for the server. What was submitted is committed `commit_within_s` later at the latest (0: as soon as the disk allows), and
    is lost if power fails before; at most `staged_bytes` of it wait in memory. `ballast_bytes` of the disk are kept for the day when it is full."""

    max_bytes: Annotated[int, msgspec.Meta(ge=1 * MIB, le=1 << 40)] = 256 * MIB
    shares: Shares = Shares()
    commit_within_s: Annotated[float, msgspec.Meta(ge=0, le=3_600)] = 0.0
    staged_bytes: Annotated[int, msgspec.Meta(ge=64 * KIB, le=1 << 30)] = 4 * MIB
    ballast_bytes: Annotated[int, msgspec.Meta(ge=0, le=1 << 30)] = 4 * MIB
