"""Where local applications find the models."""

import ipaddress
import os
import re
import socket
import stat
from dataclasses import dataclass
from pathlib import Path

from edge_agent.errors import Fatal

_UNIX = "unix:"
_UNIX_MODE = 0o660
_MAX_UNIX_CHARS = 107
_TCP = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([^:\s/]+)):(\d{1,5})")
_BACKLOG = 128


@dataclass(frozen=True)
class TcpAddress:
    """Port 0: any free one."""

    host: str
    port: int

    @property
    def is_loopback(self) -> bool:
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True)
class UnixAddress:
    """A socket file, for its owner and group."""

    path: Path

    def __str__(self) -> str:
        return f"{_UNIX}{self.path}"


Address = TcpAddress | UnixAddress


def parse_address(text: str) -> Address:
    """Of `HOST:PORT`, `[IPV6]:PORT` or `unix:PATH`. Raises Fatal."""
    if text.startswith(_UNIX):
        path = text.removeprefix(_UNIX)
        if not path or len(os.fsencode(path)) > _MAX_UNIX_CHARS:
            raise Fatal(f"the path of a Unix socket has 1 to {_MAX_UNIX_CHARS} bytes, this one {len(path)}", code="address")
        return UnixAddress(Path(path))
    found = _TCP.fullmatch(text)
    if found is None or int(found[3]) > 65_535:
        raise Fatal(f"{text!r} is no address: HOST:PORT, [IPV6]:PORT or unix:PATH", code="address")
    return TcpAddress(found[1] or found[2], int(found[3]))


def listen(address: Address) -> socket.socket:
    """Raises Fatal where that cannot be."""
    try:
        return _listen_unix(address.path) if isinstance(address, UnixAddress) else _listen_tcp(address)
    except OSError as error:
        raise Fatal(f"cannot listen on {address}: {error.strerror or error}", code="address") from error


def bound(address: Address, listener: socket.socket) -> Address:
    """With the port that the system chose."""
    return address if isinstance(address, UnixAddress) else TcpAddress(address.host, listener.getsockname()[1])


def _listen_tcp(address: TcpAddress) -> socket.socket:
    family, *_, where = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    return socket.create_server(where[:2], family=family, backlog=_BACKLOG)


def _listen_unix(path: Path) -> socket.socket:
    remove_stale(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind(str(path))
        path.chmod(_UNIX_MODE)  # nobody can connect before listen()
        listener.listen(_BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener


def remove_stale(path: Path) -> None:
    """Remove a socket that nobody listens on any more. Raises OSError; Fatal where something else is there, or somebody listens."""
    if not os.path.lexists(path):
        return
    if not stat.S_ISSOCK(path.lstat().st_mode):
        raise Fatal(f"{path} is there and is no socket", code="address")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
            return
    raise Fatal(f"another process listens on {path}", code="address")
