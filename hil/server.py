"""A real fleet server with its broker, driven through its command line and its state file."""

import json
import os
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hil.client import Client
from hil.errors import ProgramFailed
from hil.program import Program, installed, run
from hil.waiting import wait_until

_START_S = 60.0


@dataclass(frozen=True)
class ServerState:
    """What a running server says of itself in `run/state.json`."""

    https_url: str
    broker_url: str
    broker_kind: str
    pid: int
    broker_pid: int | None


class ServerRig:
    """`home` is the server's, `keys` the folder for the offline keys, kept apart from it."""

    def __init__(self, home: Path, keys: Path, logs: Path) -> None:
        self.home, self.keys, self._logs = home, keys, logs
        self.token = ""
        self._program: Program | None = None

    @property
    def ca(self) -> Path:
        return self.home / "ca" / "ca.pem"

    @property
    def releases_key(self) -> Path:
        return self.keys / "releases.pem"

    def initialise(self, fleet: str, options: Sequence[str] = ()) -> None:
        """Make CA, TUF repository, database and the admin token, which is shown this once. `options` are more of `init`. Raises ProgramFailed."""
        folders = ["--home", str(self.home), "--keys", str(self.keys)]
        answer = run("fleet-server init", [installed("fleet-server"), "init", *folders, "--fleet", fleet, "--json", *options])
        self.token = json.loads(answer.strip().splitlines()[-1])["admin_token"]

    def start(self, *, broker: str, tasks: list[Path]) -> ServerState:
        """Run the server on free ports until it says that it is up. Raises ProgramFailed or NotInTime."""
        command = [installed("fleet-server"), "up", "--home", str(self.home), "--broker", broker, "--https-port", "0", "--mqtt-port", "0"]
        for task in tasks:
            command += ["--task", str(task)]
        program = Program("fleet-server", [*command, "--releases-key", str(self.releases_key)], self._logs / "server.log")
        self._program = program
        return wait_until(lambda: self._state_of(program.pid), "fleet-server up", _START_S, check=program.check)

    def state(self) -> ServerState:
        """Raises ProgramFailed when the server does not run."""
        state = self._state_of(self._program.pid) if self._program else None
        if state is None:
            raise ProgramFailed("the fleet server is not up")
        return state

    def check(self) -> None:
        if self._program:
            self._program.check()

    def client(self) -> Client:
        return Client(self.state().https_url, self.ca, self.token)

    def kill_broker(self) -> int:
        """SIGKILL to the broker; returns the process id that it had. Raises ProgramFailed when the broker is not a process of the server's."""
        pid = self.state().broker_pid
        if pid is None:
            raise ProgramFailed("the broker is not a child process of this server")
        os.kill(pid, signal.SIGKILL)
        return pid

    def close(self) -> None:
        if self._program:
            self._program.close()

    def _state_of(self, pid: int) -> ServerState | None:
        try:
            state = json.loads((self.home / "run" / "state.json").read_text())
        except (OSError, ValueError):
            return None
        named = {name: state.get(name) for name in ServerState.__dataclass_fields__}
        return ServerState(**named) if named["pid"] == pid else None
