"""A state folder as enrolment and one update leave it, and the agent process that works on it."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from edge_agent import cli
from edge_agent.config import StateFolder
from edge_agent.errors import AgentError
from edge_agent.storage.journal import Journal
from edge_agent.update.slots import Slots
from edge_agent.update.state import Installed, State
from edge_client.errors import Unreachable
from fleet_contract.bundle import Bundle
from tests.fakes.agent_enrol_server import DEVICE, serve_enrolment

DEADLINE_S = 60.0


def installed(tmp_path: Path, archive: bytes) -> StateFolder:
    """A device without a network that runs this bundle."""
    folder = StateFolder(tmp_path / "state")
    with serve_enrolment(tmp_path) as server:
        server.change = {"broker_url": "mqtts://127.0.0.1:1"}
        token = server.token().text()
        if cli.main(["enrol", "--server", server.url, "--token", token, "--device", DEVICE, "--state", str(folder.root)]):
            raise RuntimeError("the device did not enrol")
    bundle = Bundle(archive)
    active = Installed(slot="a", sha256=bundle.sha256, length=len(archive), version=bundle.manifest.version)
    staging = Slots(folder.slots).staging(State(candidate=active))
    staging.part().write_bytes(archive)
    staging.seal()
    Journal(folder.journal, State).write(State(active=active))
    return folder


class AgentProcess:
    """`edge-agent` in a process of its own; what it says is in `log`."""

    def __init__(self, arguments: list[str], log: Path) -> None:
        self.log = log
        with log.open("ab") as written:
            command = [sys.executable, "-m", "edge_agent", *arguments]
            self.process = subprocess.Popen(command, stdout=written, stderr=written, env={**os.environ, "OMP_NUM_THREADS": "1"})

    def until(self, holds: Callable[[], bool]) -> None:
        """Poll, because the far side is another process; fail with its log."""
        end_s = time.monotonic() + DEADLINE_S
        while time.monotonic() < end_s and self.process.poll() is None:
            try:
                if holds():
                    return
            except (AgentError, Unreachable):
                pass  # the process has not made its outbox yet, or its socket is there and nobody listens yet
            time.sleep(0.05)
        raise AssertionError(f"exit {self.process.poll()}; its log:\n{self.log.read_text()[-4_000:]}")

    def end(self) -> int:
        self.process.terminate()
        return self.process.wait(DEADLINE_S)


@contextmanager
def agent(arguments: list[str], log: Path) -> Iterator[AgentProcess]:
    started = AgentProcess(arguments, log)
    try:
        yield started
    finally:
        started.process.kill()
        started.process.wait()
