"""A virtual board: a real agent with its own state folder, key and certificate, which can be killed and started again."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hil.client import Client
from hil.errors import ProgramFailed
from hil.program import Program, installed, run


class DeviceRig:
    """One device. `source` is the agent's `--source`, `options` what else its next start is given; the state folder is all that survives a kill.
    `inside` goes before each of its commands: a program that runs them in another place."""

    def __init__(self, device_id: str, source: str, state: Path, logs: Path, inside: Sequence[str] = ()) -> None:
        self.id, self.source, self.state, self._logs = device_id, source, state, logs
        self._agent = [*inside, installed("edge-agent")]
        self.options: list[str] = []
        self._program: Program | None = None

    def enrol(self, server: Client, server_url: str, *, profile: str, task: str, lifetime_s: int = 600) -> None:
        """Fetch a one-time token as an operator, and redeem it as the device. Raises ProgramFailed."""
        wish = {"device_id": self.id, "profile": profile, "task": task, "lifetime_s": lifetime_s}
        token = server.post("/enrolment-tokens", wish)["token"]
        who = ["--server", server_url, "--token", token, "--device", self.id]
        run(f"edge-agent enrol ({self.id})", [*self._agent, "enrol", *who, "--state", str(self.state)])

    def start(self) -> None:
        if self._program and self._program.running:
            raise ProgramFailed(f"the agent of {self.id} already runs")
        command = [*self._agent, "run", "--state", str(self.state), "--source", self.source, *self.options]
        self._program = Program(f"edge-agent ({self.id})", command, self._logs / f"{self.id}.log")

    def kill(self) -> None:
        """SIGKILL, as a power cut would."""
        if self._program is None:
            raise ProgramFailed(f"the agent of {self.id} does not run")
        self._program.kill()

    def status(self) -> dict[str, Any]:
        """What `edge-agent status` says. Raises ProgramFailed."""
        return json.loads(run(f"edge-agent status ({self.id})", [*self._agent, "status", "--state", str(self.state), "--json"]))

    def check(self) -> None:
        if self._program:
            self._program.check()

    def close(self) -> None:
        if self._program:
            self._program.close()
