"""What was served, counted for /metrics."""

import threading
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator

from edge_agent.serving.metrics import Metric, Point

_EDGES_S = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)


class Tally:
    """For any number of threads. `model` is a name of the catalogue, "" for a request that named none of it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._refused: Counter[tuple[str, str]] = Counter()
        self._buckets: dict[str, list[int]] = {}
        self._seconds: Counter[str] = Counter()

    def answered(self, model: str, seconds: float) -> None:
        with self._lock:
            buckets = self._buckets.setdefault(model, [0] * (len(_EDGES_S) + 1))
            buckets[bisect_left(_EDGES_S, seconds)] += 1
            self._seconds[model] += seconds

    def refused(self, model: str, code: str) -> None:
        with self._lock:
            self._refused[model, code] += 1

    def metrics(self) -> Iterator[Metric]:
        with self._lock:
            refused, seconds = dict(self._refused), dict(self._seconds)
            buckets = {model: list(counts) for model, counts in self._buckets.items()}
        points = [Point({"model": model, "code": code}, count) for (model, code), count in sorted(refused.items())]
        yield Metric("edge_agent_requests_refused_total", "counter", "Requests that were not answered, by code.", points)
        points = [point for model, counts in sorted(buckets.items()) for point in _histogram(model, counts, seconds[model])]
        yield Metric("edge_agent_request_seconds", "histogram", "From a request that was read to its answer.", points)


def _histogram(model: str, counts: list[int], seconds: float) -> Iterator[Point]:
    below = 0
    for edge, count in zip([*map(str, _EDGES_S), "+Inf"], counts, strict=True):
        below += count
        yield Point({"model": model, "le": edge}, below, "_bucket")
    yield Point({"model": model}, seconds, "_sum")
    yield Point({"model": model}, below, "_count")
