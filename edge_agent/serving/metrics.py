"""Figures of this process in the Prometheus text format, version 0.0.4."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


@dataclass(frozen=True)
class Point:
    """`suffix` is that of a histogram's series: _bucket, _sum or _count."""

    labels: Mapping[str, str]
    value: float
    suffix: str = ""


@dataclass(frozen=True)
class Metric:
    """One figure and its points. The name ends with the unit, and `_total` for a counter."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    told: str
    points: Sequence[Point] = field(default_factory=list)


Metrics = Callable[[], Iterable[Metric]]


def render(sources: Iterable[Metrics]) -> str:
    """Metrics that several sources tell under one name come as one."""
    found: dict[str, tuple[Metric, list[Point]]] = {}
    for source in sources:
        for metric in source():
            found.setdefault(metric.name, (metric, []))[1].extend(metric.points)
    return "".join(_block(metric, points) for metric, points in found.values())


def _block(metric: Metric, points: Sequence[Point]) -> str:
    head = f"# HELP {metric.name} {_escape(metric.told)}\n# TYPE {metric.name} {metric.kind}\n"
    return head + "".join(f"{metric.name}{point.suffix}{_labels(point.labels)} {_number(point.value)}\n" for point in points)


def _labels(labels: Mapping[str, str]) -> str:
    if not labels:
        return ""
    told = ",".join(f'{name}="{_escape(value, quote=True)}"' for name, value in labels.items())
    return "{" + told + "}"


def _escape(text: str, *, quote: bool = False) -> str:
    text = text.replace("\\", "\\\\").replace("\n", "\\n")
    return text.replace('"', '\\"') if quote else text


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(float(value))
