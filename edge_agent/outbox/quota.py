"""Who gives way when more waits than may, and how. Pure."""

from collections.abc import Mapping, Sequence

from edge_agent.outbox.lanes import LANES, LaneState
from edge_agent.outbox.settings import Shares
from fleet_contract.messages import Lane

MAX_STRIDE = 64
"""One telemetry record in so many is left before whole units go."""
SLACK = 64
"""A sixty-fourth of the quota is freed at once, so that not every commit has to."""


def excess_bytes(lanes: Sequence[LaneState], max_bytes: int) -> int:
    """What has to go, if anything has to."""
    used = sum(state.queued_bytes for state in lanes)
    return used - max_bytes + max_bytes // SLACK if used > max_bytes else 0


def giving_way(lanes: Sequence[LaneState], max_bytes: int, shares: Shares) -> list[tuple[int, int]]:
    """The lanes above their shares, the lowest first, and by how many bytes each is."""
    above = [(number, lanes[number].queued_bytes - int(max_bytes * shares.of(LANES[number]))) for number in reversed(range(len(LANES)))]
    return [(number, size) for number, size in above if size > 0]


def is_thinned(lane: int) -> bool:
    return LANES[lane] is Lane.TELEMETRY


def stride_to_thin(bytes_by_stride: Mapping[int, int]) -> int:
    """The one that takes most of the lane: its oldest unit is thinned, or goes if its stride is MAX_STRIDE. All strides come to take as much as one
    another: the newest records are whole, and the older ones are, the further they lie apart."""
    return max(bytes_by_stride, key=lambda stride: (bytes_by_stride[stride], -stride))
