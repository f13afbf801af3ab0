"""The sandboxed child: load, infer, unload, and nothing else. It opens no file; models and tensors come over the channel.

Run by inference.child as `python -m edge_agent.inference.worker --fd N --arena-fd N --parent PID --memory-mb M --cores C,.. --nice N --backend JSON`.
"""

import argparse
import os
import socket
from collections.abc import Sequence

import msgspec

from edge_agent.inference import sandbox
from firmware_profiles.catalog import Backend


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="edge-agent worker")
    parser.add_argument("--fd", type=int, required=True)
    parser.add_argument("--arena-fd", type=int, required=True)
    parser.add_argument("--parent", type=int, required=True)
    parser.add_argument("--memory-mb", type=int, required=True)
    parser.add_argument("--cores", default="")
    parser.add_argument("--nice", type=int, default=0)
    parser.add_argument("--backend", required=True)
    given = parser.parse_args(arguments)
    _take_place({int(core) for core in given.cores.split(",") if core}, given.nice)
    backend = msgspec.json.decode(given.backend, type=Backend)
    walls = sandbox.isolate(given.parent, backend.devices)
    with socket.socket(fileno=given.fd) as sock:
        return _serve(sock, given.arena_fd, backend, given.memory_mb, walls)


def _take_place(cores: set[int], nice: int) -> None:
    """Threads that are started later inherit both."""
    os.nice(nice)
    usable = cores & os.sched_getaffinity(0)
    if usable:
        os.sched_setaffinity(0, usable)


def _serve(sock: socket.socket, arena_fd: int, backend: Backend, memory_mb: int, walls: list[str]) -> int:
    from edge_agent.errors import Reject  # numpy and the engine start threads, so not before the sandbox
    from edge_agent.inference import conversation, protocol
    from edge_agent.inference.arena import Arena
    from edge_agent.inference.channel import AWAKE_S, Channel
    from edge_agent.inference.runtimes.port import open_runtime
    from edge_agent.vigil import affordable

    channel = Channel(sock, Arena(arena_fd), protocol.requests, affordable(AWAKE_S))
    try:
        runtime = open_runtime(backend)
    except Reject as error:
        channel.send(protocol.Failed(code=error.code, message=str(error)))
        return 1
    walls += sandbox.limit(memory_mb, backend.devices)
    conversation.hold(channel, runtime, walls)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
