"""What a local application may send to the agent's HTTP server: a whole connection, to its end."""

import gzip
import json
import socket
import time

from edge_agent.clock import SystemClock
from edge_agent.errors import AgentError
from edge_agent.serving.guard import Guard
from edge_agent.serving.http.bounds import Bounds, Budget
from edge_agent.serving.http.connection import Connection
from edge_agent.serving.http.message import Response
from edge_agent.serving.rest.application import RestApplication
from edge_agent.serving.service import Service
from edge_agent.serving.tally import Tally
from tests.fakes.agent_serving import every_dtype

_BOUNDS = Bounds(body_bytes=65_536, bodies_bytes=131_072, idle_s=1, request_s=1, write_s=1, linger_s=1)


class _Application(RestApplication):
    def refuse(self, error: AgentError) -> Response:
        if error.code == "internal":
            raise error
        return super().refuse(error)


_APPLICATION = _Application(Service(every_dtype(), SystemClock(), Tally()), Guard(None))


def converse(data: bytes) -> None:
    """Raises what the server did not foresee."""
    ours, theirs = socket.socketpair()
    with theirs:
        theirs.sendall(data[: 64 * 1024])
        theirs.shutdown(socket.SHUT_WR)
        Connection(ours, _APPLICATION, _BOUNDS, Budget(_BOUNDS.bodies_bytes), time.monotonic).serve()


def ask(body: bytes) -> None:
    """The body of one request for inference."""
    converse(b"POST /v2/models/toy/infer HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % len(body) + body)


def bodies() -> tuple[bytes, ...]:
    tensor = {"name": "x", "shape": [1, 2], "datatype": "FP32"}
    parameters = {"answers": True, "timeout": 1, "binary_data_output": True}
    outputs = [{"name": "x", "parameters": {"classification": 2}}]
    asked = (
        {"inputs": [tensor | {"data": [1, 2.5]}]},
        {"id": "1", "parameters": parameters, "inputs": [tensor | {"data": [[1, 2]]}], "outputs": outputs},
    )
    return tuple(json.dumps(one).encode() for one in asked)


def connections() -> tuple[bytes, ...]:
    """Every framing that there is, several requests at once."""
    head = b"POST /v2/models/float32/infer HTTP/1.1\r\nHost: h\r\n"
    body = bodies()[0]
    packed = gzip.compress(body, mtime=0)
    binary = json.dumps({"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32", "parameters": {"binary_data_size": 8}}]}).encode()
    return (
        b"GET /v2 HTTP/1.1\r\nHost: h\r\n\r\n" * 2 + b"GET /metrics HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n",
        head + b"Content-Length: %d\r\n\r\n" % len(body) + body,
        head + b"Transfer-Encoding: chunked\r\n\r\n%x;a=b\r\n" % len(body) + body + b"\r\n0\r\nA: 1\r\n\r\n",
        head + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(packed) + packed,
        head + b"Inference-Header-Content-Length: %d\r\nContent-Length: %d\r\n\r\n" % (len(binary), len(binary) + 8) + binary + bytes(8),
    )
