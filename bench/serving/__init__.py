"""Asking the agent over REST and gRPC, next to a bare ASGI application and, with --peers, to other model servers in environments of their own.

All have the same model of some ten microseconds with one thread, and are asked in turns by callers in a process of their own, each on one kept
connection. The agent's figures are those of `edge-agent serve`: the model runs in a sandboxed child.
"""

import argparse
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from bench.measure import Aim, Report, at_least, skip
from bench.serving import environments, servers
from bench.serving.environments import NotInstalled
from bench.serving.load import Job, Load, measure
from bench.serving.servers import Contender, Running

_CLIENTS = (1, 4)
_TURN_S = 1.0
_HEAD = ("server, protocol", "p50 us, 1 client", "answers/s", "p50 us, 4 clients", "answers/s", "idle PSS MB", "cold start s")

Key = tuple[str, str, int]
"""Server, protocol, clients."""
Measured = Mapping[Key, Sequence[Load]]


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.epilog = "example: python -m bench serving --peers --cache ~/.cache/edgefleet-bench --python /usr/bin/python3.11"
    parser.add_argument("--rounds", type=at_least(1), default=5, help="turns of each, the medians count (default: %(default)s)")
    parser.add_argument("--peers", action="store_true", help="MLServer, LitServe and pytriton, too")
    parser.add_argument(
        "--cache", type=Path, default=Path(".bench-peers"), help="where the peers' environments are kept (default: %(default)s)"
    )
    parser.add_argument("--python", default=sys.executable, help="what their environments are made with (default: this one)")


def run(rounds: int, peers: bool, cache: Path, python: str) -> Report:
    with tempfile.TemporaryDirectory(prefix="serving-") as place, ExitStack() as closing:
        absent: dict[str, str] = {}
        up: list[Running] = []
        for name, make in _contenders(Path(place), cache.absolute(), python, peers):
            try:
                up.append(closing.enter_context(servers.running(make())))
            except (NotInstalled, RuntimeError) as error:
                absent[name] = str(error)
        if "edge-agent" in absent:
            return skip("serving", absent["edge-agent"])
        measured = _take_turns(up, rounds)
    table = [_HEAD, *_lines(up, measured), *((f"{name}: {why[-120:]}", *[""] * (len(_HEAD) - 1)) for name, why in absent.items())]
    return Report("serving", table, _aims({server.name: server for server in up}, measured))


def _contenders(folder: Path, cache: Path, python: str, peers: bool) -> Iterator[tuple[str, Callable[[], Contender]]]:
    yield "edge-agent", lambda: servers.ours(folder)
    yield "bare ASGI", servers.floor
    if peers:
        yield "MLServer, in process", lambda: servers.mlserver(folder, environments.python_of("mlserver", cache, python), workers=0)
        yield "MLServer, isolated", lambda: servers.mlserver(folder, environments.python_of("mlserver", cache, python), workers=1)
        yield "LitServe", lambda: servers.litserve(folder, environments.python_of("litserve", cache, python))
        yield "Triton, pytriton", lambda: servers.pytriton(folder, environments.python_of("pytriton", cache, python))


def _take_turns(up: Sequence[Running], rounds: int) -> Measured:
    """Every round asks all of them, in alternating order."""
    turns = [(server, way, clients) for server in up for way in server.ways for clients in _CLIENTS]
    measured: dict[Key, list[Load]] = {(server.name, way.name, clients): [] for server, way, clients in turns}
    for number in range(rounds):
        for server, way, clients in turns if number % 2 else reversed(turns):
            measured[server.name, way.name, clients].append(measure(Job(way.url, way.payload, clients, _TURN_S)))
    return measured


def _lines(up: Sequence[Running], measured: Measured) -> Iterator[tuple[str, ...]]:
    for server in up:
        for number, way in enumerate(server.ways):
            loads = [measured[server.name, way.name, clients] for clients in _CLIENTS]
            told = [text for load in loads for text in (f"{_p50_us(load):.0f}", f"{statistics.median(one.per_s for one in load):.0f}")]
            process = ("", "") if number else (f"{server.idle_bytes / 1e6:.0f}", f"{server.cold_start_s:.2f}")
            yield (f"{server.name}, {way.name}", *told, *process)


def _p50_us(loads: Sequence[Load]) -> float:
    return statistics.median(load.p50_us for load in loads)


def _aims(up: Mapping[str, Running], measured: Measured) -> list[Aim]:
    ours, peer = up["edge-agent"], up.get("MLServer, in process")
    return [
        Aim("REST p50 / MLServer in process", _ratio(measured, "MLServer, in process"), 0.4, at_most=True),
        Aim("REST p50 / MLServer isolated", _ratio(measured, "MLServer, isolated"), 0.2, at_most=True),
        Aim("idle PSS / MLServer in process", None if peer is None else ours.idle_bytes / peer.idle_bytes, 1.0, at_most=True),
        Aim("cold start s", ours.cold_start_s, 1.5, at_most=True),
    ]


def _ratio(measured: Measured, peer: str) -> float | None:
    """Of one client's p50 with the same JSON, the median over the rounds."""
    ours, theirs = measured["edge-agent", "REST JSON", 1], measured.get((peer, "REST JSON", 1))
    if theirs is None:
        return None
    return statistics.median(one.p50_us / other.p50_us for one, other in zip(ours, theirs, strict=True))
