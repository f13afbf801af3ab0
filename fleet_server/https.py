"""The HTTPS listener: uvicorn in the calling thread, until SIGTERM or SIGINT."""

import signal
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import uvicorn
from fastapi import FastAPI

_GRACE_S = 2
_MAX_CONNECTIONS = 1_000


@dataclass(frozen=True)
class TlsFiles:
    certificate: Path
    key: Path


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, on_ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_ready = on_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._on_ready()


def serve(app: FastAPI, listener: socket.socket, tls: TlsFiles, on_ready: Callable[[], None]) -> None:
    """Returns after a graceful stop. Must be called in the main thread."""
    config = uvicorn.Config(
        app,
        ssl_certfile=str(tls.certificate),
        ssl_keyfile=str(tls.key),
        log_config=None,
        access_log=False,
        lifespan="off",
        server_header=False,
        limit_concurrency=_MAX_CONNECTIONS,
        timeout_graceful_shutdown=_GRACE_S,
    )
    # uvicorn raises the signal again once it has stopped; without these handlers that would end the process before its children.
    before = {number: signal.signal(number, lambda *_: None) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        _Server(config, on_ready).run(sockets=[listener])
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
