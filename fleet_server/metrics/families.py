"""Short ways to make metric families."""

from collections.abc import Iterable

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from fleet_server.services.figures import Durations

Labelled = Iterable[tuple[tuple[str, ...], float]]
"""Label values, and the number."""


def gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value=float(value))


def gauges(name: str, text: str, labels: tuple[str, ...], samples: Labelled) -> Metric:
    family = GaugeMetricFamily(name, text, labels=labels)
    for values, number in samples:
        family.add_metric(values, float(number))
    return family


def counters(name: str, text: str, labels: tuple[str, ...], samples: Labelled) -> Metric:
    """Prometheus knows it as `name`_total."""
    family = CounterMetricFamily(name, text, labels=labels)
    for values, number in samples:
        family.add_metric(values, float(number))
    return family


def durations(name: str, text: str, labels: tuple[str, ...], samples: Iterable[tuple[tuple[str, ...], Durations]]) -> Metric:
    family = HistogramMetricFamily(name, text, labels=labels)
    for values, measured in samples:
        family.add_metric(values, buckets=measured.buckets(), sum_value=measured.total_s)
    return family
