"""A request that came whole, and its answer."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Protocol

from edge_agent.errors import AgentError
from edge_agent.serving.http.head import Head

JSON = "application/json"


@dataclass(frozen=True, slots=True)
class Request:
    """`body` without its transfer and content codings."""

    head: Head
    body: bytes | memoryview


@dataclass(frozen=True, slots=True)
class Response:
    """`parts` are sent one behind the other. No Date: boards have no clock to be trusted (RFC 9110, 6.6.1)."""

    status: HTTPStatus
    parts: Sequence[bytes | memoryview] = ()
    content_type: str = JSON
    fields: Mapping[str, str] = field(default_factory=dict)

    @property
    def length(self) -> int:
        return sum(map(len, self.parts))

    def head(self, *, keep_alive: bool) -> bytes:
        """Up to the empty line."""
        lines = [
            f"HTTP/1.1 {self.status.value} {self.status.phrase}",
            f"Content-Type: {self.content_type}",
            f"Content-Length: {self.length}",
        ]
        lines += [f"{name}: {value}" for name, value in self.fields.items()]
        if not keep_alive:
            lines.append("Connection: close")
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


class Application(Protocol):
    """What the server serves, from any thread."""

    def admit(self, head: Head) -> None:
        """Before the body is read. Raises Refused."""

    def answer(self, request: Request) -> Response:
        """Whatever the request is: errors of the agent become answers here."""

    def refuse(self, error: AgentError) -> Response:
        """Of a request that could not be read, or not be answered."""
