"""Where a virtual board stands: a network that can be cut, a disk that is small. Namespaces held by a process that ends with this one, and with
it everything in them: nothing is left on the machine."""

import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_TOOLS = ("unshare", "nsenter", "ip", "mount")
_FILLER = ".filler"
_CHUNK_BYTES = 1 << 16


def obstacle() -> str | None:
    """Why there can be none here."""
    if os.geteuid() != 0:
        return "only root may make namespaces"
    if missing := [tool for tool in _TOOLS if shutil.which(tool) is None]:
        return f"there is no {', '.join(missing)} here"
    made = subprocess.run(["unshare", "--net", "--mount", "true"], capture_output=True, text=True)
    return None if made.returncode == 0 else f"no namespaces here: {made.stderr.strip()}"


@dataclass(frozen=True)
class Place:
    """`host` is where the network here reaches the machine around it, by a cable between these two alone."""

    pid: int
    host: str

    @property
    def on_network(self) -> list[str]:
        """Goes before a command that shall reach nothing but `host`."""
        return ["nsenter", "--target", str(self.pid), "--net"]

    @property
    def on_disk(self) -> list[str]:
        """Goes before a command that shall see what was mounted here."""
        return ["nsenter", "--target", str(self.pid), "--mount"]

    def cut(self) -> None:
        """Pull the cable: what is sent from now on is lost, and nobody is told that a connection is gone."""
        self._ip("link", "set", "eth0", "down")

    def mend(self) -> None:
        self._ip("link", "set", "eth0", "up")

    def mount(self, folder: Path, size_bytes: int) -> None:
        """A disk of this size at `folder`, for what runs `on_disk` alone."""
        folder.mkdir(parents=True, exist_ok=True)
        _run([*self.on_disk, "mount", "-t", "tmpfs", "-o", f"size={size_bytes}", "tmpfs", str(folder)])

    def fill(self, folder: Path) -> None:
        """Leave no byte free on the disk of `folder`, as another program's log would."""
        with (self._seen(folder) / _FILLER).open("wb", buffering=0) as filler:
            for size in (_CHUNK_BYTES, 1):
                try:
                    while filler.write(b"\0" * size):
                        pass
                except OSError:  # full
                    continue

    def free(self, folder: Path) -> None:
        (self._seen(folder) / _FILLER).unlink()

    def _seen(self, folder: Path) -> Path:
        """As this process reaches it."""
        return Path(f"/proc/{self.pid}/root{folder.absolute()}")

    def _ip(self, *arguments: str) -> None:
        _run([*self.on_network, "ip", *arguments])


@contextmanager
def place(number: int) -> Iterator[Place]:
    """`number` (1 to 250) tells those that are there at one time apart."""
    command = ["unshare", "--net", "--mount", "--propagation", "private", "sh", "-c", "echo; exec cat"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        made = Place(holder.pid, f"10.213.{number}.1")
        outer = f"edgefleet{number}"
        _run(["ip", "link", "add", outer, "type", "veth", "peer", "name", "eth0", "netns", str(holder.pid)])
        _run(["ip", "address", "add", f"{made.host}/24", "dev", outer])
        _run(["ip", "link", "set", outer, "up"])
        for arguments in ("link set lo up", f"address add 10.213.{number}.2/24 dev eth0", "link set eth0 up"):
            made._ip(*arguments.split())
        yield made


def _run(command: Sequence[str]) -> None:
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=20)
    if done.returncode:
        raise OSError(f"{' '.join(command)}: {done.stderr.strip()}")
