"""Where the agent keeps its state, and the settings with their defaults."""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from edge_agent.delivery.pace import Manners
from edge_agent.device_file import DeviceFile
from edge_agent.errors import Fatal
from edge_agent.storage import atomic

_LOCK_TRIES = 10
_LOCK_PAUSE_S = 0.05


@dataclass(frozen=True)
class StateFolder:
    """Everything that the agent writes lies below `root`, which is private to its user."""

    root: Path

    @property
    def identity(self) -> Path:
        return self.root / "identity"

    @property
    def tuf(self) -> Path:
        return self.root / "tuf"

    @property
    def time(self) -> Path:
        """The newest times that were signed."""
        return self.root / "time.json"

    @property
    def slots(self) -> Path:
        return self.root / "slots"

    @property
    def journal(self) -> Path:
        return self.root / "journal.json"

    @property
    def outbox(self) -> Path:
        return self.root / "outbox.db"

    @property
    def status(self) -> Path:
        return self.root / "status.json"

    @contextmanager
    def lock(self) -> Iterator[bool]:
        """Yields whether this process now holds the folder alone; the lock ends with the process."""
        atomic.make_folder(self.root)
        with (self.root / "lock").open("a") as file:
            alone = _try_lock(file)
            if alone:
                os.ftruncate(file.fileno(), 0)
                file.write(str(os.getpid()))
                file.flush()
            yield alone

    def owner(self) -> int | None:
        """The process id in the lock file: that of the running agent while it holds the lock."""
        try:
            return int((self.root / "lock").read_text())
        except (OSError, ValueError):
            return None


@dataclass(frozen=True)
class Settings:
    """How the agent paces itself; `manners` are those of downloads, `device` what this device says for itself."""

    micro_batch: int = 16
    probation_inputs: int = 16
    probation_s: float = 10.0
    recheck_s: float = 3_600.0
    manners: Manners = field(default_factory=Manners)
    device: DeviceFile = field(default_factory=DeviceFile)

    def __post_init__(self) -> None:
        """Raises Fatal naming the setting."""
        for name, value, least, most in (
            ("micro_batch", self.micro_batch, 1, 1_024),
            ("probation_inputs", self.probation_inputs, 0, 1_000_000),
            ("probation_s", self.probation_s, 0, 86_400),
            ("recheck_s", self.recheck_s, 1, 30 * 86_400),
        ):
            if not least <= value <= most:
                raise Fatal(f"{name} is {value}, it must be {least} to {most}", code="setting")


def _try_lock(file: IO[str]) -> bool:
    for _ in range(_LOCK_TRIES):
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            time.sleep(_LOCK_PAUSE_S)  # `status` looks at the lock by holding it for an instant
    return False
