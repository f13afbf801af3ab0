"""The traces of a running server in its home: the lock, the ports it used last, and run/state.json, which says that it is ready."""

import fcntl
import os
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec

from fleet_server.errors import BadRequest, Conflict
from fleet_server.storage import make_folder, write_atomic

_BACKLOG = 1_024
"""A short listen queue loses connections when a whole fleet comes back at once."""
_LOOK_S = 0.02


class RunState(msgspec.Struct, frozen=True):
    """What run/state.json holds from when the server is ready until it ends."""

    https_url: str
    broker_url: str
    broker_kind: str
    pid: int
    broker_pid: int | None


class Ports(msgspec.Struct, frozen=True):
    """The ports used last: where any free port will do, devices still find the server where they left it."""

    https: int = 0
    mqtt: int = 0


@contextmanager
def claimed(home: Path) -> Iterator[None]:
    """Hold the home for this process. Raises Conflict when another server runs on it."""
    path = make_folder(home / "run", 0o700) / "lock"
    with path.open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            lock.seek(0)
            raise Conflict(f"a fleet server already runs on {home} (process {lock.read().strip() or 'unknown'})", field="home") from error
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        clear_state(home)
        try:
            yield
        finally:
            clear_state(home)


def write_state(home: Path, state: RunState) -> None:
    write_atomic(home / "run" / "state.json", msgspec.json.encode(state))


def read_state(home: Path) -> RunState | None:
    """None where no server is ready."""
    try:
        return msgspec.json.decode((home / "run" / "state.json").read_bytes(), type=RunState)
    except (OSError, ValueError):
        return None


def clear_state(home: Path) -> None:
    (home / "run" / "state.json").unlink(missing_ok=True)


def mark_connected(home: Path, name: str) -> None:
    """The worker of this name listens to the broker."""
    write_atomic(make_folder(home / "run", 0o700) / f"{name}.connected", b"")


def wait_connected(home: Path, names: Sequence[str], timeout_s: float) -> bool:
    """Until all of these workers have listened once since `clear_connected`; False when they have not in time."""
    deadline_s = time.monotonic() + timeout_s
    pause = threading.Event()
    while not all((home / "run" / f"{name}.connected").exists() for name in names):
        if time.monotonic() > deadline_s:
            return False
        pause.wait(_LOOK_S)
    return True


def clear_connected(home: Path) -> None:
    for path in (home / "run").glob("*.connected"):
        path.unlink(missing_ok=True)


def last_ports(home: Path) -> Ports:
    try:
        return msgspec.json.decode((home / "run" / "ports.json").read_bytes(), type=Ports)
    except (OSError, ValueError):
        return Ports()


def remember_ports(home: Path, ports: Ports) -> None:
    write_atomic(home / "run" / "ports.json", msgspec.json.encode(ports))


def listen(address: str, port: int, preferred: int, field: str) -> socket.socket:
    """A listening socket on `port`, or for port 0 on the `preferred` one if it is free, else on any. Raises BadRequest when `port` is taken."""
    if port == 0 and preferred:
        try:
            return _listen(address, preferred)
        except OSError:
            preferred = 0
    try:
        return _listen(address, port)
    except OSError as error:
        option = f"--{field.replace('_', '-')}"
        raise BadRequest(
            f"cannot listen on {address}:{port}: {error.strerror}; choose another {option}, or 0 for any", field=field
        ) from error


def free_port(address: str, port: int, preferred: int, field: str) -> int:
    """As `listen`, but lets the port go again for a child to take. Raises BadRequest."""
    with listen(address, port, preferred, field) as taken:
        return taken.getsockname()[1]


def _listen(address: str, port: int) -> socket.socket:
    return socket.create_server((address, port), backlog=_BACKLOG)
