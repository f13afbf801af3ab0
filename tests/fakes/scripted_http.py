"""An HTTP server that answers each connection as a script says, byte for byte."""

import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

Script = Callable[[socket.socket], None]


@dataclass
class ScriptedHttp:
    """`requests` are the heads that came. After the last script connections are closed at once."""

    url: str
    requests: list[str] = field(default_factory=list)

    def header(self, number: int, name: str) -> str | None:
        lines = dict(line.split(": ", 1) for line in self.requests[number].split("\r\n")[1:] if ": " in line)
        return lines.get(name)


@contextmanager
def serve(scripts: Sequence[Script]) -> Iterator[ScriptedHttp]:
    listener = socket.create_server(("127.0.0.1", 0))
    server = ScriptedHttp(f"http://127.0.0.1:{listener.getsockname()[1]}")
    thread = threading.Thread(target=_serve, args=(listener, server, list(scripts)))
    thread.start()
    try:
        yield server
    finally:
        with suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


def _serve(listener: socket.socket, server: ScriptedHttp, scripts: list[Script]) -> None:
    with suppress(OSError):
        while True:
            connection, _ = listener.accept()
            with connection, suppress(OSError):
                head = b""
                while not head.endswith(b"\r\n\r\n"):
                    head += connection.recv(65_536)
                server.requests.append(head.decode())
                if scripts:
                    scripts.pop(0)(connection)
