"""A PostgreSQL of Debian's packages in a folder of its own, on a Unix socket: started, restarted in the middle of work, ended with its block."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

_PROGRAMS = Path("/usr/lib/postgresql")
_USER = "postgres"
"""PostgreSQL does not run as root."""
_PATIENCE_S = 60


class ClusterFailed(Exception):
    """One of PostgreSQL's programs refused; its words are in the text."""


def obstacle() -> str | None:
    """Why this machine has no PostgreSQL to start; None where it has."""
    if not _installed():
        return f"PostgreSQL is not installed (no {_PROGRAMS}/*/bin/initdb)"
    if os.geteuid() == 0 and shutil.which("runuser") is None:
        return "PostgreSQL does not run as root, and there is no runuser"
    return None


@dataclass(frozen=True)
class Cluster:
    """Runs when `running` gives it. `folder` has a short path, because that of a socket must be."""

    folder: Path
    settings: tuple[str, ...]

    @property
    def url(self) -> str:
        """Of its first database, for SQLAlchemy; the user may do everything."""
        return self.database("postgres")

    def database(self, name: str) -> str:
        return f"postgresql+psycopg://fleet@/{name}?host={self.folder}"

    @property
    def data(self) -> Path:
        return self.folder / "data"

    def initialise(self) -> None:
        _run([*_as_user(), _program("initdb"), "-D", self.data, "-U", "fleet", "-A", "trust", "--no-sync", "-E", "UTF8"])

    def start(self) -> None:
        """Back when it takes connections. Raises ClusterFailed."""
        options = " ".join(f"-c {setting}" for setting in (f"unix_socket_directories={self.folder}", *self.settings))
        self._control("-o", options, "start")

    def stop(self, mode: Literal["fast", "immediate"] = "immediate") -> None:
        """`fast` ends transactions and writes a checkpoint; after `immediate` the next start recovers, as after a crash. Nothing when it is stopped."""
        if (self.data / "postmaster.pid").exists():
            self._control("-m", mode, "stop")

    def _control(self, *arguments: str) -> None:
        _run([*_as_user(), _program("pg_ctl"), "-D", self.data, "-w", "-l", self.folder / "log", *arguments])


@contextmanager
def running(*settings: str, durable: bool = True) -> Iterator[Cluster]:
    """`settings` are `name=value`; not `durable` is for tests that end when their machine does. Raises ClusterFailed."""
    with tempfile.TemporaryDirectory(prefix="edgefleet-pg-") as name:
        folder = Path(name)
        if _as_user():
            shutil.chown(folder, _USER)
        cluster = Cluster(folder, ("listen_addresses=''", *([] if durable else ["fsync=off"]), *settings))
        cluster.initialise()
        cluster.start()
        try:
            yield cluster
        finally:
            cluster.stop()


def _installed() -> list[Path]:
    return sorted(_PROGRAMS.glob("*/bin/initdb"))


def _program(name: str) -> Path:
    if reason := obstacle():
        raise ClusterFailed(reason)
    return _installed()[-1].with_name(name)


def _as_user() -> list[str]:
    return ["runuser", "-u", _USER, "--"] if os.geteuid() == 0 else []


def _run(command: Sequence[str | Path]) -> None:
    """Not through a pipe: the server would inherit it, and it would never end."""
    with tempfile.TemporaryFile() as said:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=said, stderr=said, cwd="/", timeout=_PATIENCE_S)
        said.seek(0)
        if done.returncode:
            raise ClusterFailed(f"{command} failed: {said.read().decode(errors='replace')}")
