"""The sandboxed child: load, infer, unload, and nothing else. It opens no file; models and tensors come over the socket.

Run by inference.child as `python -m edge_agent.inference.worker --fd N --parent PID --memory-mb M --backend JSON`.
"""

import argparse
import socket
from collections.abc import Sequence

from edge_agent.inference import sandbox

_MAX_PAYLOAD_BYTES = 2 * 1024**3
_MAX_REASON_CHARS = 500


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="edge-agent worker")
    parser.add_argument("--fd", type=int, required=True)
    parser.add_argument("--parent", type=int, required=True)
    parser.add_argument("--memory-mb", type=int, required=True)
    parser.add_argument("--backend", required=True)
    given = parser.parse_args(arguments)
    walls = sandbox.isolate(given.parent)
    with socket.socket(fileno=given.fd) as sock:
        return _serve(sock, given.backend, given.memory_mb, walls)


def _serve(sock: socket.socket, backend: str, memory_mb: int, walls: list[str]) -> int:
    import msgspec

    from edge_agent.errors import Reject  # numpy and the engine start threads, so not before the sandbox
    from edge_agent.inference import protocol
    from edge_agent.inference.runtimes.port import open_runtime
    from firmware_profiles.catalog import Backend

    try:
        runtime = open_runtime(msgspec.json.decode(backend, type=Backend))
    except Reject as error:
        protocol.send(sock, protocol.Failed(code=error.code, message=str(error)))
        return 1
    walls += sandbox.limit(memory_mb)
    protocol.send(sock, protocol.Ready(walls=walls))
    while True:
        try:
            request, payload = protocol.receive(sock, protocol.requests, _MAX_PAYLOAD_BYTES)
        except protocol.ChannelClosed:
            return 0
        try:
            reply, data = _answer(runtime, request, payload)
        except Exception as error:  # noqa: BLE001 - engines raise types of their own; the supervisor judges
            reply, data = _failure(error), b""
        payload = b""  # a model lives in the engine now
        protocol.send(sock, reply, data)


def _answer(runtime, request, payload: bytes):
    from edge_agent.inference import protocol

    match request:
        case protocol.Load():
            return protocol.Loaded(runtime.load(payload, request.plan)), b""
        case protocol.Infer():
            heads, data = protocol.pack(runtime.infer(protocol.unpack(request.tensors, payload)))
            return protocol.Answer(heads), data
        case protocol.Unload():
            runtime.unload()
            return protocol.Unloaded(), b""


def _failure(error: Exception):
    from edge_agent.errors import Reject
    from edge_agent.inference import protocol

    text = f"{type(error).__name__}: {error}"[:_MAX_REASON_CHARS]
    if isinstance(error, Reject):
        return protocol.Failed(code=error.code, message=text)
    starved = isinstance(error, MemoryError) or any(sign in text.lower() for sign in ("bad_alloc", "bad allocation", "failed to allocate"))
    return protocol.Failed(code="memory" if starved else "bundle", message=text)


if __name__ == "__main__":
    raise SystemExit(main())
