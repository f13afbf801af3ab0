"""The agent's own figures for /metrics."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields

from edge_agent.inference.host import InferenceHost
from edge_agent.pipeline import Observation
from edge_agent.ports import Sink, Store
from edge_agent.serving.metrics import Metric, Metrics, Point


def of_hosts(hosts: Mapping[str, InferenceHost]) -> Metrics:
    """Workers and bundles, by the model's name."""

    def metrics() -> Iterator[Metric]:
        counts = {name: host.counts() for name, host in hosts.items()}
        active = {name: host.active() for name, host in hosts.items()}
        points = [
            Point({"model": name, "event": field.name}, getattr(count, field.name))
            for name, count in counts.items()
            for field in fields(count)
        ]
        yield Metric("edge_agent_workers_total", "counter", "Worker processes that were started, that ended by themselves or hung.", points)
        points = [Point({"model": name}, host.waiting) for name, host in hosts.items()]
        yield Metric("edge_agent_requests_waiting", "gauge", "Requests for which no worker is free.", points)
        points = [
            Point({"model": name, "version": model.manifest.version, "bundle": model.sha256}, 1) for name, model in active.items() if model
        ]
        yield Metric("edge_agent_model_info", "gauge", "Which bundle answers.", points)

    return metrics


def of_store(store: Store) -> Metrics:
    """Records by lane: produced = acknowledged + queued + dropped."""

    def metrics() -> Iterator[Metric]:
        ledger = store.ledger()
        produced = [Point({"lane": lane}, entry.produced) for lane, entry in ledger.items()]
        yield Metric("edge_agent_records_total", "counter", "Records that were made.", produced)
        queued = [Point({"lane": lane}, entry.queued) for lane, entry in ledger.items()]
        yield Metric("edge_agent_records_queued", "gauge", "Records that wait for the server.", queued)
        dropped = [Point({"lane": lane, "reason": why}, count) for lane, entry in ledger.items() for why, count in entry.dropped.items()]
        yield Metric("edge_agent_records_dropped_total", "counter", "Records that the server will never get.", dropped)

    return metrics


def of_inputs(observe: Callable[[], Observation], connected: Callable[[], bool]) -> Metrics:
    """Of the source, and of requests that are recorded; and whether the server can be reached."""

    def metrics() -> Iterator[Metric]:
        seen = observe()
        yield Metric(
            "edge_agent_inputs_total",
            "counter",
            "Inputs of the source, and of the fleet's model by local applications.",
            [Point({}, seen.inputs)],
        )
        points = [Point({"reason": reason}, count) for reason, count in sorted(seen.refused.items())]
        yield Metric("edge_agent_inputs_refused_total", "counter", "Inputs without an answer or a record, by reason.", points)
        yield Metric("edge_agent_connected", "gauge", "Whether the fleet's broker is connected.", [Point({}, connected())])

    return metrics


def of_sinks(sinks: Sequence[Sink]) -> Metrics:
    """By their place in the configuration."""

    def metrics() -> Iterator[Metric]:
        points = [Point({"sink": str(number)}, sink.dropped()) for number, sink in enumerate(sinks)]
        yield Metric("edge_agent_results_dropped_total", "counter", "Results that a sink was too slow for, or refused.", points)

    return metrics
