"""The contenders, each started as its users would start it, with the same model and one thread for it."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from bench.serving import load, memory, questions

_START_S = 120.0
_LOOK_S = 0.01
_STOP_S = 20.0
_SETTLE_S = 1.0
_PEERS = Path(__file__).parent / "peers"
_THREADS = {"OMP_NUM_THREADS": "1", "ORT_NUM_THREADS": "1"}


@dataclass(frozen=True)
class Way:
    """One protocol of a server, and the question in it."""

    name: str
    url: str
    payload: str


@dataclass(frozen=True)
class Running:
    """`cold_start_s`: from the start of the process to the first answer. `idle_bytes`: PSS of it and of all that it started, before the load."""

    name: str
    ways: Sequence[Way]
    cold_start_s: float
    idle_bytes: int


@dataclass(frozen=True)
class Contender:
    """`ways[0]` tells when it is up."""

    name: str
    command: Sequence[str]
    ways: Sequence[Way]
    environment: Mapping[str, str] = field(default_factory=dict)
    folder: Path | None = None


def ours(folder: Path) -> Contender:
    archive, unix, (http, grpc) = folder / "toy.bundle", folder / "http.sock", _ports(2)
    archive.write_bytes(questions.bundle())
    addresses = ["--http", f"127.0.0.1:{http}", "--http", f"unix:{unix}", "--grpc", f"127.0.0.1:{grpc}"]
    path = f"/v2/models/{questions.MODEL}/infer"
    ways = [
        Way("REST JSON", f"http://127.0.0.1:{http}", questions.rest(path)),
        Way("REST binary", f"http://127.0.0.1:{http}", questions.rest(path, binary=True)),
        Way("REST binary, Unix", f"unix:{unix}", questions.rest(path, binary=True)),
        Way("gRPC", f"grpc://127.0.0.1:{grpc}", questions.grpc()),
    ]
    return Contender("edge-agent", [sys.executable, "-m", "edge_agent", "serve", "--bundle", str(archive), *addresses], ways)


def floor() -> Contender:
    (port,) = _ports(1)
    command = [
        sys.executable,
        "-m",
        "uvicorn",
        "bench.serving.floor:application",
        "--port",
        str(port),
        "--no-access-log",
        "--lifespan",
        "off",
    ]
    return Contender("bare ASGI", command, [Way("REST JSON", f"http://127.0.0.1:{port}", questions.rest("/"))])


def mlserver(folder: Path, python: Path, *, workers: int) -> Contender:
    """`workers` 0: in its own process; 1: isolated, as it is by default."""
    home, (http, grpc, figures_port) = _home(folder / f"mlserver-{workers}"), _ports(3)
    settings = {"HTTP_PORT": http, "GRPC_PORT": grpc, "METRICS_PORT": figures_port, "PARALLEL_WORKERS": workers, "DEBUG": "false"}
    path = f"/v2/models/{questions.MODEL}/infer"
    ways = [
        Way("REST JSON", f"http://127.0.0.1:{http}", questions.rest(path)),
        Way("gRPC", f"grpc://127.0.0.1:{grpc}", questions.grpc()),
    ]
    environment = {f"MLSERVER_{name}": str(value) for name, value in settings.items()}
    name = "MLServer, isolated" if workers else "MLServer, in process"
    return Contender(name, [str(python.parent / "mlserver"), "start", str(home)], ways, environment, home)


def litserve(folder: Path, python: Path) -> Contender:
    home, (port,) = _home(folder / "litserve"), _ports(1)
    way = Way("its own JSON", f"http://127.0.0.1:{port}", questions.plain("/predict"))
    return Contender("LitServe", [str(python), str(_PEERS / "litserve_model.py"), str(port)], [way], folder=home)


def pytriton(folder: Path, python: Path) -> Contender:
    home, (http, grpc, figures_port) = _home(folder / "pytriton"), _ports(3)
    path = f"/v2/models/{questions.MODEL}/infer"
    ways = [
        Way("REST JSON", f"http://127.0.0.1:{http}", questions.rest(path)),
        Way("REST binary", f"http://127.0.0.1:{http}", questions.rest(path, binary=True)),
        Way("gRPC", f"grpc://127.0.0.1:{grpc}", questions.grpc()),
    ]
    ports = [str(port) for port in (http, grpc, figures_port)]
    return Contender("Triton, pytriton", [str(python), str(_PEERS / "pytriton_model.py"), *ports], ways, folder=home)


@contextmanager
def running(contender: Contender) -> Iterator[Running]:
    """Raises RuntimeError with the end of its log when it does not come up."""
    with tempfile.TemporaryFile() as log:
        begun_s = time.perf_counter()
        environment = {**os.environ, **_THREADS, **contender.environment}
        process = subprocess.Popen(contender.command, env=environment, cwd=contender.folder, stdout=log, stderr=log, start_new_session=True)
        try:
            _await_up(contender, process, log)
            cold_start_s = time.perf_counter() - begun_s
            time.sleep(_SETTLE_S)
            yield Running(contender.name, contender.ways, cold_start_s, memory.held_bytes(process.pid))
        finally:
            process.terminate()
            _end(process)


def _await_up(contender: Contender, process: subprocess.Popen, log) -> None:
    way, end_s = contender.ways[0], time.monotonic() + _START_S
    while not load.is_answered(way.url, way.payload):
        if process.poll() is not None or time.monotonic() > end_s:
            log.seek(0)
            raise RuntimeError(f"{contender.name} does not come up: {log.read()[-2_000:].decode(errors='replace')}")
        time.sleep(_LOOK_S)


def _end(process: subprocess.Popen) -> None:
    try:
        process.wait(_STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)  # LitServe leaves its workers behind


def _home(folder: Path) -> Path:
    """With the model, and what the peers need beside it."""
    folder.mkdir()
    (folder / "model.onnx").write_bytes(questions.perceptron())
    for source in _PEERS.glob("mlserver_model*"):
        (folder / source.name).write_bytes(source.read_bytes())
    (folder / "mlserver_model.json").rename(folder / "model-settings.json")
    return folder


def _ports(count: int) -> list[int]:
    """Free just now."""
    listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    try:
        return [listener.getsockname()[1] for listener in listeners]
    finally:
        for listener in listeners:
            listener.close()
