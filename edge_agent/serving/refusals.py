"""What a caller is told when a request is not answered: the one table from the agent's codes to HTTP and gRPC statuses."""

from dataclasses import dataclass
from http import HTTPStatus

from edge_agent.errors import AgentError, Reject, Retry


class Refused(Reject):
    """A request that is wrong as it stands; `code` is one of the table below."""

    code = "bad-request"


@dataclass(frozen=True)
class Refusal:
    """`grpc` is the name of a gRPC status code. `retry`: the same request may work later."""

    code: str
    message: str
    http: HTTPStatus
    grpc: str
    retry: bool


_STATUSES: dict[str, tuple[HTTPStatus, str]] = {
    # the request
    "bad-request": (HTTPStatus.BAD_REQUEST, "INVALID_ARGUMENT"),
    "bad-tensor": (HTTPStatus.BAD_REQUEST, "INVALID_ARGUMENT"),
    "bad-input": (HTTPStatus.BAD_REQUEST, "INVALID_ARGUMENT"),
    "not-finite": (HTTPStatus.BAD_REQUEST, "INVALID_ARGUMENT"),
    "out-of-range": (HTTPStatus.BAD_REQUEST, "OUT_OF_RANGE"),
    "unsupported": (HTTPStatus.BAD_REQUEST, "UNIMPLEMENTED"),
    "unknown-model": (HTTPStatus.NOT_FOUND, "NOT_FOUND"),
    "not-found": (HTTPStatus.NOT_FOUND, "UNIMPLEMENTED"),
    "wrong-method": (HTTPStatus.METHOD_NOT_ALLOWED, "UNIMPLEMENTED"),
    "unauthenticated": (HTTPStatus.UNAUTHORIZED, "UNAUTHENTICATED"),
    "forbidden": (HTTPStatus.FORBIDDEN, "PERMISSION_DENIED"),
    "too-slow": (HTTPStatus.REQUEST_TIMEOUT, "DEADLINE_EXCEEDED"),
    "too-large": (HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "RESOURCE_EXHAUSTED"),
    "unknown-encoding": (HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "UNIMPLEMENTED"),
    "unknown-transfer": (HTTPStatus.NOT_IMPLEMENTED, "UNIMPLEMENTED"),
    "unknown-expectation": (HTTPStatus.EXPECTATION_FAILED, "UNIMPLEMENTED"),
    "head-too-large": (HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "RESOURCE_EXHAUSTED"),
    "unknown-version": (HTTPStatus.HTTP_VERSION_NOT_SUPPORTED, "UNIMPLEMENTED"),
    # the device
    "no-model": (HTTPStatus.SERVICE_UNAVAILABLE, "UNAVAILABLE"),
    "model-swapped": (HTTPStatus.SERVICE_UNAVAILABLE, "UNAVAILABLE"),
    "overloaded": (HTTPStatus.SERVICE_UNAVAILABLE, "RESOURCE_EXHAUSTED"),
    "deadline": (HTTPStatus.GATEWAY_TIMEOUT, "DEADLINE_EXCEEDED"),
    "worker-crashed": (HTTPStatus.SERVICE_UNAVAILABLE, "UNAVAILABLE"),
    "worker-timeout": (HTTPStatus.GATEWAY_TIMEOUT, "DEADLINE_EXCEEDED"),
    "worker-unavailable": (HTTPStatus.SERVICE_UNAVAILABLE, "UNAVAILABLE"),
    "memory": (HTTPStatus.INTERNAL_SERVER_ERROR, "RESOURCE_EXHAUSTED"),
}
_OURS = (HTTPStatus.INTERNAL_SERVER_ERROR, "INTERNAL")


def refusal_of(error: AgentError) -> Refusal:
    """A code that the table does not know is our failure: 500, INTERNAL."""
    http, grpc = _STATUSES.get(error.code, _OURS)
    return Refusal(error.code, str(error), http, grpc, isinstance(error, Retry))
