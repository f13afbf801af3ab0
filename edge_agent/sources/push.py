"""Inputs that local programs post over HTTP."""

import threading
from collections.abc import Iterator
from http import HTTPMethod, HTTPStatus

import msgspec

from edge_agent.errors import AgentError
from edge_agent.ports import Clock, Input
from edge_agent.serving.address import Address
from edge_agent.serving.guard import Guard
from edge_agent.serving.http.bounds import Bounds
from edge_agent.serving.http.head import Head
from edge_agent.serving.http.message import Request, Response
from edge_agent.serving.http.server import HttpServer
from edge_agent.serving.refusals import Refused, refusal_of
from edge_agent.sources.backlog import QUEUE_FULL, Backlog, Rules
from edge_agent.sources.losses import Losses
from edge_agent.sources.payloads import BadPayload, Payloads
from fleet_contract import limits
from fleet_contract.inputs import InputSpec

_BOUNDS = Bounds(connections=32, body_bytes=limits.MAX_IMAGE_BYTES, bodies_bytes=4 * limits.MAX_IMAGE_BYTES)
_RETRY_S = "1"


class Push:
    """POST / with one JSON row, a list of rows, or the bytes of one picture. 202: all of it waits for the model. 400: it is no input, and none of it is
    taken. 429: the queue is full, and so much of it was taken as `taken` says. 503: there is no model yet. 413, 408, 401 and 403 as for all of HTTP
    here. What was refused is counted by its reason, except for a full queue that leaves it to the caller (`block`)."""

    def __init__(
        self, address: Address, guard: Guard, clock: Clock, rules: Rules, time: str | None = None, bounds: Bounds = _BOUNDS
    ) -> None:
        """Listens at once. Raises Fatal where the address cannot be had."""
        self._clock, self._guard, self._time = clock, guard, time
        self._losses = Losses()
        self._backlog = Backlog(rules, self._losses)
        self._payloads: Payloads | None = None
        self._order = threading.Lock()
        self._server = HttpServer(address, self, clock, bounds)
        self.address = self._server.address
        self._server.start()

    def read(self, spec: InputSpec, after: str | None) -> Iterator[Input | None]:
        self._payloads = None
        self._backlog.forget()
        self._payloads = Payloads(spec, self._clock, self._time, f"what is pushed to {self.address}")
        return self._backlog.read()

    def losses(self) -> dict[str, int]:
        return self._losses.take()

    def close(self) -> None:
        self._payloads = None
        self._server.close()

    def admit(self, head: Head) -> None:
        """Raises Refused."""
        self._guard.check(head.field("authorization"), head.field("host"), head.field("origin"))
        if head.method != HTTPMethod.POST:
            raise Refused(f"inputs are posted, not fetched by {head.method[:20]}", code="wrong-method")

    def answer(self, request: Request) -> Response:
        payloads = self._payloads
        if payloads is None:
            return _refusal(HTTPStatus.SERVICE_UNAVAILABLE, "no-model", "there is no model that takes inputs yet")
        try:
            return self._take(payloads.parse(bytes(request.body)))
        except BadPayload as error:
            reason = error.refused.refusal or "unreadable"
            self._losses.add(reason)
            return _refusal(HTTPStatus.BAD_REQUEST, reason, str(error))

    def refuse(self, error: AgentError) -> Response:
        told = refusal_of(error)
        self._losses.add(told.code)
        return _refusal(told.http, told.code, told.message)

    def _take(self, inputs: list[Input]) -> Response:
        """Rows of one request stay together."""
        with self._order:
            taken = next((number for number, row in enumerate(inputs) if not self._backlog.offer(row)), len(inputs))
        if taken < len(inputs):
            return _refusal(HTTPStatus.TOO_MANY_REQUESTS, QUEUE_FULL, "the queue is full: come again", taken=taken)
        return Response(HTTPStatus.ACCEPTED, [msgspec.json.encode({"taken": taken})])


def _refusal(status: HTTPStatus, code: str, message: str, **more: int) -> Response:
    waits = status in (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE)
    fields = {"Retry-After": _RETRY_S} if waits else {}
    return Response(status, [msgspec.json.encode({"error": message, "code": code, **more})], fields=fields)
