"""What a minute of inferences comes to. Pure."""

LATENCY_BOUNDS_US = (250, 1_000, 4_000, 16_000, 64_000, 256_000, 1_024_000)
"""Upper bounds, inclusive; an eighth bucket has what took longer."""
MAX_VALUE = 1e30
"""Values are held within it before they are added, so that no device can make a sum that the database refuses."""


def quantile(buckets: tuple[int, ...], share: float) -> float | None:
    """The latency in microseconds that `share` of the inferences did not exceed, linear within its bucket; None where there are none. What took
    longer than the last bound counts as twice it."""
    total, edges = sum(buckets), (0, *LATENCY_BOUNDS_US, 2 * LATENCY_BOUNDS_US[-1])
    wanted, below = share * total, 0
    for at, count in enumerate(buckets):
        if count and below + count >= wanted:
            return edges[at] + (edges[at + 1] - edges[at]) * max(0.0, wanted - below) / count
        below += count
    return None
