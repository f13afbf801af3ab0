"""Hands complete traces to a collector: OpenTelemetry's protocol over HTTP. Loaded only where one is named."""

import logging
import threading
from collections.abc import Callable, Sequence
from datetime import datetime

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_NAMESPACE, Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.trace import SpanContext, SpanKind, TraceFlags
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from fleet_contract.instants import microseconds
from fleet_server.domain.spans import BROKER, Span
from fleet_server.errors import brief
from fleet_server.services import traces

log = logging.getLogger(__name__)

_EVERY_S = 2.0
_TIMEOUT_S = 10.0
_TRACES_AT_ONCE = 100
_MAX_NANOSECONDS = 2**63 - 1


class Collector:
    """Where spans go. `endpoint` is the base URL, as in OTEL_EXPORTER_OTLP_ENDPOINT; headers and certificates are taken from the exporter's own
    variables (OTEL_EXPORTER_OTLP_HEADERS, ..._CERTIFICATE)."""

    def __init__(self, endpoint: str, fleet: str) -> None:
        self._exporter = OTLPSpanExporter(endpoint=f"{endpoint.rstrip('/')}/v1/traces", timeout=_TIMEOUT_S)
        self._fleet = fleet

    def send(self, found: Sequence[tuple[str, Sequence[Span]]]) -> bool:
        """Whether the collector has taken these traces, all of them."""
        readable = [_readable(trace, span, self._fleet) for trace, spans in found for span in spans]
        return self._exporter.export(readable) is SpanExportResult.SUCCESS

    def close(self) -> None:
        self._exporter.shutdown()


class TraceExport:
    """A thread that sends what is complete, until `close`; what a collector does not take is sent again."""

    def __init__(self, engine: Engine, collector: Collector, now: Callable[[], datetime], every_s: float = _EVERY_S) -> None:
        self._engine, self._collector, self._now, self._every_s = engine, collector, now, every_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="trace-export", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._stop.set()
        self._thread.join(_TIMEOUT_S)
        self._collector.close()

    def turn(self) -> int:
        """How many traces were sent. Raises SQLAlchemyError."""
        found = traces.unexported(self._engine, _TRACES_AT_ONCE)
        if not found or not self._collector.send(found):
            return 0
        traces.mark_exported(self._engine, [trace for trace, _ in found], self._now())
        return len(found)

    def _run(self) -> None:
        while not self._stop.wait(self._every_s):
            try:
                self.turn()
            except SQLAlchemyError as error:
                log.warning("traces wait: %s", brief(error))


def _readable(trace: str, span: Span, fleet: str) -> ReadableSpan:
    return ReadableSpan(
        span.name,
        context=_context(trace, span.id),
        parent=None if span.parent is None else _context(trace, span.parent),
        resource=Resource({SERVICE_NAME: span.service, SERVICE_NAMESPACE: fleet}),
        attributes=span.attributes,
        kind=SpanKind.CONSUMER if span.service == BROKER else SpanKind.INTERNAL,
        start_time=_nanoseconds(span.begin),
        end_time=_nanoseconds(span.end),
    )


def _context(trace: str, span: str) -> SpanContext:
    return SpanContext(int(trace, 16), int(span, 16), is_remote=False, trace_flags=TraceFlags(TraceFlags.SAMPLED))


def _nanoseconds(at: datetime) -> int:
    """On the wire a fixed64: a device's clock may say more, or less than 1970."""
    return min(max(microseconds(at) * 1_000, 0), _MAX_NANOSECONDS)
