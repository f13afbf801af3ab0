"""A link that carries so many bytes a second each way and keeps little on its way, between a device and a port of this machine."""

import contextlib
import socket
import threading
import time
from collections.abc import Iterator

_PIECE_BYTES = 4096
_BUFFER_BYTES = 16 * 1024


@contextlib.contextmanager
def slow_link(port: int, bytes_per_s: int) -> Iterator[int]:
    """The port that leads to `port` over it. For one connection at a time, which the device closes before the end."""
    with socket.create_server(("127.0.0.1", 0)) as door:
        keeper = threading.Thread(target=_keep, args=(door, port, bytes_per_s))
        keeper.start()
        yield door.getsockname()[1]
        door.shutdown(socket.SHUT_RDWR)
        keeper.join()


def _keep(door: socket.socket, port: int, bytes_per_s: int) -> None:
    while True:
        try:
            device, _ = door.accept()
        except OSError:
            return
        with device, socket.socket() as server:
            server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER_BYTES)
            server.connect(("127.0.0.1", port))
            up = threading.Thread(target=_carry, args=(device, server, bytes_per_s))
            up.start()
            _carry(server, device, bytes_per_s)
            up.join()


def _carry(source: socket.socket, sink: socket.socket, bytes_per_s: int) -> None:
    free_s = time.monotonic()
    with contextlib.suppress(OSError):
        while piece := source.recv(_PIECE_BYTES):
            free_s = max(free_s, time.monotonic()) + len(piece) / bytes_per_s
            time.sleep(max(0.0, free_s - time.monotonic()))
            sink.sendall(piece)
    for end in (source, sink):
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
