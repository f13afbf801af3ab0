"""A real agent process without any network: it brings its model up, works, records, and ends in good order."""

import os
import signal
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from edge_agent.config import StateFolder
from edge_agent.inspection import status
from tests.fakes.agent_installed import AgentProcess, agent, installed
from tests.fakes.agent_run_models import bundle

ROWS = 40


@pytest.fixture
def state(tmp_path: Path) -> StateFolder:
    return installed(tmp_path, bundle())


def start(state: StateFolder, rows: Path) -> AbstractContextManager[AgentProcess]:
    return agent(["run", "--state", str(state.root), "--source", f"csv:{rows}"], rows.with_suffix(".log"))


def produced(state: StateFolder) -> int:
    return status(state)["ledger"].get("telemetry", {}).get("produced", 0)


def test_it_works_records_survives_sigkill_and_ends_on_sigterm(state: StateFolder, tmp_path: Path) -> None:
    rows = tmp_path / "rows.csv"
    rows.write_text("a,b\n" + "".join(f"{n % 7},{n % 5}\n" for n in range(ROWS)))
    with start(state, rows) as first:
        first.until(lambda: produced(state) == ROWS)
        os.kill(first.process.pid, signal.SIGKILL)
        first.process.wait()
    with rows.open("a") as more:
        more.write("".join(f"{n % 7},{n % 5}\n" for n in range(ROWS)))
    with start(state, rows) as second:
        second.until(lambda: produced(state) >= 2 * ROWS)
        found = status(state)
        assert second.end() == 0
    assert found["ledger"]["telemetry"] == {"produced": 2 * ROWS, "acknowledged": 0, "queued": 2 * ROWS, "dropped": {}, "oldest": 0}
    assert (found["running"], found["link"]["connected"]) == (True, False)
    assert not status(state)["running"]
