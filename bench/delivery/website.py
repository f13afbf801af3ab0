"""A child, the peer: uvicorn and starlette's FileResponse, plain HTTP. Answers each line on stdin with what was counted; ends with stdin."""

import socket
import sys
import threading

import uvicorn
from starlette.applications import Starlette
from starlette.responses import FileResponse
from starlette.routing import Route
from starlette.types import Message, Receive, Scope, Send

from bench.delivery.wire import Counted, plan, say


class CountedFile:
    """An ASGI endpoint."""

    def __init__(self, path: str) -> None:
        self._path = path
        self.bytes_out = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def counted(message: Message) -> None:
            self.bytes_out += len(message.get("body", b""))
            await send(message)

        await FileResponse(self._path)(scope, receive, counted)


def main() -> None:
    told = plan()
    file = CountedFile(f"{told.served}/{told.path}")
    listener = socket.create_server(("127.0.0.1", 0), backlog=1_024)
    server = uvicorn.Server(uvicorn.Config(Starlette(routes=[Route("/file", file)]), log_config=None, access_log=False, lifespan="off"))
    threading.Thread(target=server.run, args=([listener],), daemon=True).start()
    say(listener.getsockname()[1])
    for _ in sys.stdin:
        say(Counted(0, file.bytes_out))
    server.should_exit = True


if __name__ == "__main__":
    main()
