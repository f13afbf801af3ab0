"""A real agent process without any network: it brings its model up, works, records, and ends in good order."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from edge_agent import cli
from edge_agent.config import StateFolder
from edge_agent.errors import AgentError
from edge_agent.inspection import status
from edge_agent.storage.journal import Journal
from edge_agent.update.slots import Slots
from edge_agent.update.state import Installed, State
from fleet_contract.bundle import Bundle
from tests.fakes.agent_enrol_server import DEVICE, serve_enrolment
from tests.fakes.agent_run_models import bundle

DEADLINE_S = 60.0
ROWS = 40


@pytest.fixture
def state(tmp_path: Path) -> StateFolder:
    folder = StateFolder(tmp_path / "state")
    with serve_enrolment(tmp_path) as server:
        server.change = {"broker_url": "mqtts://127.0.0.1:1"}
        token = server.token().text()
        assert cli.main(["enrol", "--server", server.url, "--token", token, "--device", DEVICE, "--state", str(folder.root)]) == 0
    archive = bundle()
    active = Installed(slot="a", sha256=Bundle(archive).sha256, length=len(archive), version="1.0.0")
    staging = Slots(folder.slots).staging(State(candidate=active))
    staging.part().write_bytes(archive)
    staging.seal()
    Journal(folder.journal, State).write(State(active=active))
    return folder


def start(state: StateFolder, rows: Path, log: Path) -> subprocess.Popen[bytes]:
    with log.open("ab") as errors:
        command = [sys.executable, "-m", "edge_agent", "run", "--state", str(state.root), "--source", f"csv:{rows}"]
        return subprocess.Popen(command, stderr=errors, env={**os.environ, "OMP_NUM_THREADS": "1"})


def until(agent: subprocess.Popen[bytes], log: Path, holds: Callable[[], bool]) -> None:
    """Poll, because the far side is another process; fail with its log."""
    end_s = time.monotonic() + DEADLINE_S
    while time.monotonic() < end_s and agent.poll() is None:
        try:
            if holds():
                return
        except AgentError:
            pass  # the process has not made its outbox yet
        time.sleep(0.05)
    raise AssertionError(f"exit {agent.poll()}; its log:\n{log.read_text()[-4_000:]}")


def produced(state: StateFolder) -> int:
    return status(state)["ledger"].get("telemetry", {}).get("produced", 0)


def test_it_works_records_survives_sigkill_and_ends_on_sigterm(state: StateFolder, tmp_path: Path) -> None:
    rows, log = tmp_path / "rows.csv", tmp_path / "agent.log"
    rows.write_text("a,b\n" + "".join(f"{n % 7},{n % 5}\n" for n in range(ROWS)))
    first = start(state, rows, log)
    try:
        until(first, log, lambda: produced(state) == ROWS)
        os.kill(first.pid, signal.SIGKILL)
    finally:
        first.kill()
        first.wait()
    with rows.open("a") as more:
        more.write("".join(f"{n % 7},{n % 5}\n" for n in range(ROWS)))
    second = start(state, rows, log)
    try:
        until(second, log, lambda: produced(state) >= 2 * ROWS)
        found = status(state)
        second.send_signal(signal.SIGTERM)
        assert second.wait(DEADLINE_S) == 0
    finally:
        second.kill()
        second.wait()
    assert found["ledger"]["telemetry"] == {"produced": 2 * ROWS, "acknowledged": 0, "queued": 2 * ROWS, "dropped": {}}
    assert (found["running"], found["link"]["connected"]) == (True, False)
    assert not status(state)["running"]
