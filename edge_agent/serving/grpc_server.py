"""The Open Inference Protocol v2 over gRPC: inference.GRPCInferenceService, on a TCP port of this board or a Unix socket."""

import logging
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import NoReturn

import grpc
from google.protobuf.message import DecodeError

from edge_agent import __version__
from edge_agent.errors import AgentError, Fatal
from edge_agent.serving.address import Address, TcpAddress, UnixAddress, remove_stale
from edge_agent.serving.grpc_messages import Messages
from edge_agent.serving.grpc_patience import Patience
from edge_agent.serving.grpc_tensors import call_of, metadata_of, response_of
from edge_agent.serving.guard import Guard
from edge_agent.serving.refusals import Refused
from edge_agent.serving.service import Service
from fleet_contract import limits

log = logging.getLogger(__name__)

_SERVICE = "inference.GRPCInferenceService"
_NAME = "edge-agent"
_EXTENSIONS = ("classification",)
_UNIX_UMASK = 0o117
_CLOSE_S = 2.0
_PINGS_MS = 10_000


@dataclass(frozen=True)
class Bounds:
    """`threads` requests are read and answered at once, each of at most `message_bytes`, and `waiting` more wait: what is beyond is refused, as are
    connections beyond `connections`, each a fifth of a megabyte. One that does not begin to speak HTTP/2 ends after `handshake_s`. A request
    must come within `request_s`, or half as much more. After `age_s` a connection is told to go, and clients make another by themselves; after
    `grace_s` it is cut."""

    threads: int = 8
    waiting: int = 64
    connections: int = 64
    message_bytes: int = limits.MAX_GRPC_MESSAGE_BYTES
    handshake_s: float = 10.0
    request_s: float = 30.0
    age_s: float = 120.0
    grace_s: float = 30.0

    def options(self) -> list[tuple[str, int]]:
        return [
            ("grpc.so_reuseport", 0),
            ("grpc.max_receive_message_length", self.message_bytes),
            ("grpc.max_metadata_size", limits.MAX_HTTP_HEAD_BYTES),
            ("grpc.max_allowed_incoming_connections", self.connections),
            ("grpc.server_handshake_timeout_ms", round(1_000 * self.handshake_s)),
            ("grpc.max_concurrent_streams", self.threads + self.waiting),
            ("grpc.max_connection_age_ms", round(1_000 * self.age_s)),
            ("grpc.max_connection_age_grace_ms", round(1_000 * self.grace_s)),
            ("grpc.http2.min_ping_interval_without_data_ms", _PINGS_MS),
        ]


class GrpcServer:
    """Answers from `start` to `close`. What is too much at once is told RESOURCE_EXHAUSTED by the library."""

    def __init__(self, address: Address, service: Service, guard: Guard, bounds: Bounds = Bounds()) -> None:
        """Raises Fatal where it cannot listen."""
        self._service = service
        self._guard = guard
        self._messages = Messages()
        self._patience = Patience(bounds.request_s)
        threads = ThreadPoolExecutor(bounds.threads, thread_name_prefix="grpc")
        self._server = grpc.server(threads, options=bounds.options(), maximum_concurrent_rpcs=bounds.threads + bounds.waiting)
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(_SERVICE, self._handlers()),))
        self.address = _bind(self._server, address)

    def start(self) -> None:
        self._patience.start()
        self._server.start()

    def close(self) -> None:
        """Requests that are being answered get a moment to end."""
        self._server.stop(_CLOSE_S).wait()
        self._patience.close()

    def _handlers(self) -> dict[str, grpc.RpcMethodHandler]:
        methods = {
            "ServerLive": self._server_live,
            "ServerReady": self._server_ready,
            "ServerMetadata": self._server_metadata,
            "ModelReady": self._model_ready,
            "ModelMetadata": self._model_metadata,
            "ModelInfer": self._model_infer,
        }
        return {name: self._handler(name, answer) for name, answer in methods.items()}

    def _handler(self, name: str, answer: Callable) -> grpc.RpcMethodHandler:
        def handle(requests, context: grpc.ServicerContext):
            request = None
            try:
                self._guard.check(_authorization(context), None)
                request = self._taken(requests, context)
                return answer(request, context)
            except AgentError as error:
                self._refuse(context, error, _model_of(request))

        return grpc.stream_unary_rpc_method_handler(  # the same on the wire, and its one request can be waited for
            handle,
            request_deserializer=partial(_read, self._messages[f"{name}Request"]),
            response_serializer=self._messages[f"{name}Response"].SerializeToString,
        )

    def _taken(self, requests, context: grpc.ServicerContext):
        """Raises Refused, or what the library does where nobody hears it."""
        try:
            with self._patience.waits(context):
                request = next(requests, None)
        except grpc.RpcError:
            self._service.refuse(Refused("the request did not come whole", code="too-slow"))
            raise
        if request is None:
            raise Refused("there is no message")
        if isinstance(request, Refused):
            raise request
        return request

    def _server_live(self, request, context):
        return self._messages["ServerLiveResponse"](live=True)

    def _server_ready(self, request, context):
        return self._messages["ServerReadyResponse"](ready=self._service.is_ready())

    def _server_metadata(self, request, context):
        return self._messages["ServerMetadataResponse"](name=_NAME, version=__version__, extensions=_EXTENSIONS)

    def _model_ready(self, request, context):
        ready = self._service.is_model_ready(request.name, request.version or None)
        return self._messages["ModelReadyResponse"](ready=ready)

    def _model_metadata(self, request, context):
        return metadata_of(self._messages, self._service.view(request.name, request.version or None))

    def _model_infer(self, request, context):
        return response_of(self._messages, request, self._service.infer(call_of(request, context.time_remaining())))

    def _refuse(self, context: grpc.ServicerContext, error: AgentError, model: str) -> NoReturn:
        refusal = self._service.refuse(error, model)
        context.abort(grpc.StatusCode[refusal.grpc], f"{refusal.message} [{refusal.code}]")


def _bind(server: grpc.Server, address: Address) -> Address:
    """Where it listens now. Raises Fatal."""
    try:
        if isinstance(address, UnixAddress):
            remove_stale(address.path)
            before = os.umask(_UNIX_UMASK)  # the library binds and listens in one step, and a chmod would come after it
            try:
                server.add_insecure_port(str(address))
            finally:
                os.umask(before)
            return address
        return TcpAddress(address.host, server.add_insecure_port(str(address)))
    except (RuntimeError, OSError) as error:
        raise Fatal(f"cannot listen on {address}: {error}", code="address") from error


def _read(kind: type, data: bytes):
    """The request, or why it is none: what the library met by itself it would only log, with a traceback each time."""
    try:
        return kind.FromString(data)
    except DecodeError:
        return Refused(f"{len(data)} bytes that are no {kind.DESCRIPTOR.name}")


def _model_of(request) -> str:
    return getattr(request, "model_name", "") or getattr(request, "name", "")


def _authorization(context: grpc.ServicerContext) -> str | None:
    return next((value for key, value in context.invocation_metadata() if key == "authorization"), None)
