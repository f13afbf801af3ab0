"""The routes of the Open Inference Protocol v2, of its model repository extension (index only), and /metrics."""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from http import HTTPMethod, HTTPStatus
from typing import Any
from urllib.parse import unquote

import msgspec

from edge_agent import __version__
from edge_agent.errors import AgentError, Reject, Retry
from edge_agent.serving import metrics, trace_context
from edge_agent.serving.answers import told
from edge_agent.serving.datatypes import datatype_of
from edge_agent.serving.guard import Guard
from edge_agent.serving.http.head import Head, parse_length
from edge_agent.serving.http.message import Request, Response
from edge_agent.serving.refusals import Refusal, Refused
from edge_agent.serving.rest import reading, writing
from edge_agent.serving.rest.schema import InferRequest
from edge_agent.serving.service import Call, Service
from fleet_contract import limits
from fleet_contract.tensors import TensorSpec

EXTENSIONS = ("binary_tensor_data", "classification", "model_repository(index)")
_HEADER_LENGTH = "inference-header-content-length"
_OCTETS = "application/octet-stream"
_RETRY_S = "1"

_Route = Callable[[Request], Response]


class _WrongMethod(Refused):
    code = "wrong-method"

    def __init__(self, path: str, given: str, allowed: HTTPMethod) -> None:
        super().__init__(f"{path[:80]} takes {allowed}, not {given[:20]}")
        self.allowed = allowed


class RestApplication:
    """Implements http.message.Application."""

    def __init__(self, service: Service, guard: Guard, sources: Sequence[metrics.Metrics] = ()) -> None:
        """`sources` are what /metrics tells."""
        self._service, self._guard, self._sources = service, guard, tuple(sources)
        self._turn = threading.Lock()
        self._fixed: Mapping[str, tuple[HTTPMethod, _Route]] = {
            "/v2": (HTTPMethod.GET, self._server),
            "/v2/health/live": (HTTPMethod.GET, lambda _: _json({"live": True})),
            "/v2/health/ready": (HTTPMethod.GET, lambda _: _readiness(self._service.is_ready())),
            "/v2/repository/index": (HTTPMethod.POST, self._index),
            "/metrics": (HTTPMethod.GET, self._metrics),
        }

    def admit(self, head: Head) -> None:
        self._guard.check(head.field("authorization"), head.field("host"), head.field("origin"))

    def answer(self, request: Request) -> Response:
        path = request.head.path.rstrip("/")
        fixed = self._fixed.get(path)
        model = ""
        try:
            if fixed is not None:
                _expect(request, fixed[0])
                return fixed[1](request)
            model, version, action = _split(path)
            return self._of_model(request, model, version, action)
        except AgentError as error:
            return _refusal(self._service.refuse(error, model), error)

    def refuse(self, error: AgentError) -> Response:
        return _refusal(self._service.refuse(error), error)

    def _of_model(self, request: Request, model: str, version: str | None, action: str) -> Response:
        if action == "infer":
            _expect(request, HTTPMethod.POST)
            return self._infer(request, model, version)
        _expect(request, HTTPMethod.GET)
        if action == "ready":
            return _readiness(self._service.is_model_ready(model, version))
        return self._metadata(model, version)

    def _infer(self, request: Request, model: str, version: str | None) -> Response:
        length = request.head.field(_HEADER_LENGTH)
        asked, given = reading.read(request.body, None if length is None else parse_length(length, "Inference-Header-Content-Length"))
        timeout_s = asked.parameters.timeout / 1e6 if asked.parameters.timeout else None
        outputs = [output.name for output in asked.outputs]
        call = Call(model, version, given, outputs, timeout_s, asked.id, trace_context.followed(request.head.field(trace_context.FIELD)))
        if length is not None or len(request.body) <= limits.MAX_SIDE_BY_SIDE_JSON_BYTES:
            return self._answer(asked, call)
        with self._alone(timeout_s):
            return self._answer(asked, call)

    @contextmanager
    def _alone(self, timeout_s: float | None) -> Iterator[None]:
        """Tensors as JSON take many times the memory of their text, which callers side by side would need each. Raises Retry (deadline)."""
        if not self._turn.acquire(timeout=-1 if timeout_s is None else timeout_s):
            raise Retry("large tensors as JSON are taken one at a time; as binary data they need not wait", code="deadline")
        try:
            yield
        finally:
            self._turn.release()

    def _answer(self, asked: InferRequest, call: Call) -> Response:
        answered = self._service.infer(call)
        answers = told(answered.prediction, answered.inputs) if asked.parameters.answers else None
        text, binary = writing.write(asked, answered.prediction, answered.outputs, answers)
        if not binary:
            return Response(HTTPStatus.OK, [text])
        return Response(HTTPStatus.OK, [text, *binary], _OCTETS, {"Inference-Header-Content-Length": str(len(text))})

    def _server(self, _: Request) -> Response:
        return _json({"name": "edge-agent", "version": __version__, "extensions": EXTENSIONS})

    def _metadata(self, model: str, version: str | None) -> Response:
        view = self._service.view(model, version)
        inputs = [_told(spec) for spec in (*view.signature.inputs, *view.signature.optional)]
        outputs = [_told(spec) for spec in view.signature.outputs]
        return _json({"name": view.name, "versions": [view.version], "platform": view.platform, "inputs": inputs, "outputs": outputs})

    def _index(self, _: Request) -> Response:
        return _json([self._index_entry(name) for name in self._service.names()])

    def _index_entry(self, name: str) -> dict[str, str]:
        try:
            view = self._service.view(name)
        except Reject as error:
            return {"name": name, "version": "", "state": "UNAVAILABLE", "reason": str(error)}
        return {"name": name, "version": view.version, "state": "READY", "reason": ""}

    def _metrics(self, _: Request) -> Response:
        return Response(HTTPStatus.OK, [metrics.render(self._sources).encode()], metrics.CONTENT_TYPE)


@lru_cache(256)
def _split(path: str) -> tuple[str, str | None, str]:
    """Model, version and what is asked of it ("" for its metadata), of /v2/models/MODEL[/versions/VERSION][/ready | /infer]."""
    names = [unquote(part) if "%" in part else part for part in path.split("/")]
    match names:
        case ["", "v2", "models", model, "versions", version, *rest] if len(rest) <= 1:
            pass
        case ["", "v2", "models", model, *rest] if len(rest) <= 1:
            version = None
        case _:
            raise Refused(f"there is no {path[:80]!r}", code="not-found")
    action = rest[0] if rest else ""
    if not model or action not in ("", "ready", "infer"):
        raise Refused(f"there is no {path[:80]!r}", code="not-found")
    return model, version, action


def _expect(request: Request, method: HTTPMethod) -> None:
    given = request.head.method
    if given != method and not (given == HTTPMethod.HEAD and method == HTTPMethod.GET):
        raise _WrongMethod(request.head.path, given, method)


def _told(spec: TensorSpec) -> dict[str, Any]:
    return {"name": spec.name, "datatype": datatype_of(spec.dtype), "shape": spec.shape}


def _json(value: Any, status: HTTPStatus = HTTPStatus.OK) -> Response:
    return Response(status, [msgspec.json.encode(value)])


def _readiness(is_ready: bool) -> Response:
    return _json({"ready": is_ready}, HTTPStatus.OK if is_ready else HTTPStatus.SERVICE_UNAVAILABLE)


def _refusal(refusal: Refusal, error: AgentError) -> Response:
    fields = {"Allow": error.allowed.value} if isinstance(error, _WrongMethod) else {}
    if refusal.http == HTTPStatus.UNAUTHORIZED:
        fields["WWW-Authenticate"] = "Bearer"
    if refusal.http == HTTPStatus.SERVICE_UNAVAILABLE:
        fields["Retry-After"] = _RETRY_S
    return Response(refusal.http, [msgspec.json.encode({"error": refusal.message, "code": refusal.code})], fields=fields)
