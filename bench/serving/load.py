"""`python -m bench.serving.load JOB`: closed-loop callers in a process of their own, each with one kept connection, that send the same bytes again and
again. JOB is a JSON object (see Job). Writes p50 in microseconds and answers per second as JSON."""

import base64
import itertools
import json
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from urllib.parse import urlsplit

_GRPC_INFER = "/inference.GRPCInferenceService/ModelInfer"
_READ_BYTES = 65_536
_PATIENCE_S = 120.0
_ANSWER_S = 10.0

Exchange = Callable[[], None]


@dataclass(frozen=True)
class Job:
    """`payload` is a whole HTTP request, or the gRPC message, as base64. `url` is http://HOST:PORT, grpc://HOST:PORT or unix:PATH (HTTP)."""

    url: str
    payload: str
    clients: int
    time_s: float


@dataclass(frozen=True)
class Load:
    p50_us: float
    per_s: float


def measure(job: Job) -> Load:
    """In a process of its own. Raises RuntimeError when a request was not answered."""
    ended = subprocess.run(
        [sys.executable, "-m", "bench.serving.load", json.dumps(asdict(job))],
        capture_output=True,
        text=True,
        timeout=_PATIENCE_S,
        check=False,
    )
    if ended.returncode:
        raise RuntimeError(f"no load on {job.url}: {ended.stderr.strip().splitlines()[-1:]}")
    return Load(**json.loads(ended.stdout))


def is_answered(url: str, payload: str) -> bool:
    """Whether an HTTP server answers this with 200."""
    try:
        with _connect(url) as connection:
            connection.settimeout(_ANSWER_S)
            connection.sendall(base64.b64decode(payload))
            _first_response(connection)
    except (OSError, RuntimeError):
        return False
    return True


def _run(job: Job) -> Load:
    payload = base64.b64decode(job.payload)
    callers = [_grpc(job.url, payload) if job.url.startswith("grpc:") else _http(job.url, payload) for _ in range(job.clients)]
    times: list[list[float]] = [[] for _ in callers]
    end_s = time.perf_counter() + job.time_s
    threads = [threading.Thread(target=_repeat, args=[call, end_s, into]) for call, into in zip(callers, times, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if not all(times):
        raise RuntimeError("a caller was not answered")
    together = list(itertools.chain.from_iterable(times))
    return Load(1e6 * statistics.median(together), len(together) / job.time_s)


def _repeat(call: Exchange, end_s: float, into: list[float]) -> None:
    for _ in range(20):
        call()
    while (begun_s := time.perf_counter()) < end_s:
        call()
        into.append(time.perf_counter() - begun_s)


def _http(url: str, payload: bytes) -> Exchange:
    connection = _connect(url)
    connection.sendall(payload)
    whole = _first_response(connection)

    def exchange() -> None:
        """The same question has an answer of the same length."""
        connection.sendall(payload)
        left = whole
        while left > 0:
            left -= len(_receive(connection))

    return exchange


def _connect(url: str) -> socket.socket:
    if url.startswith("unix:"):
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(url.removeprefix("unix:"))
        return connection
    parts = urlsplit(url)
    connection = socket.create_connection((parts.hostname, parts.port))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def _first_response(connection: socket.socket) -> int:
    """Its length in bytes. Raises RuntimeError unless it says 200."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += _receive(connection)
    head, _, body = data.partition(b"\r\n\r\n")
    if head.split()[1] != b"200":
        raise RuntimeError(f"{head.splitlines()[0]!r} {body[:200]!r}")
    fields = dict(line.lower().split(b":", 1) for line in head.split(b"\r\n")[1:])
    length = int(fields[b"content-length"])
    while len(body) < length:
        body += _receive(connection)
    return len(head) + 4 + length


def _receive(connection: socket.socket) -> bytes:
    data = connection.recv(_READ_BYTES)
    if not data:
        raise RuntimeError("the server closed the connection")
    return data


def _grpc(url: str, payload: bytes) -> Exchange:
    import grpc  # loaded by those who measure it

    call = grpc.insecure_channel(urlsplit(url).netloc).unary_unary(_GRPC_INFER)
    return lambda: call(payload)


if __name__ == "__main__":
    sys.stdout.write(json.dumps(asdict(_run(Job(**json.loads(sys.argv[1]))))))
