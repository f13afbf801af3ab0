"""The command line: what a person sees, and the exit codes that scripts rely on."""

import io
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_agent import cli
from edge_agent.clock import BUILT_AT, SystemClock
from edge_agent.commands import holdings
from edge_agent.config import StateFolder
from edge_agent.delivery.downloads import Download
from edge_agent.observation import Report, StatusFile, downloading
from edge_agent.storage.journal import Journal
from edge_agent.trust.client import Trust
from edge_agent.trust.time import TrustedTime
from edge_agent.update.requests import PARDON, ROLLBACK, Requests
from edge_agent.update.slots import Slots
from edge_agent.update.state import Installed, State
from fleet_contract.bundle import Bundle
from tests.fakes.agent_enrol_server import DEVICE, EnrolServer, serve_enrolment
from tests.fakes.agent_outbox import open_outbox
from tests.fakes.agent_repository import MemoryRepository
from tests.fakes.agent_world import MemoryFiles
from tests.fakes.small_bundle import small_bundle


@pytest.fixture
def server(tmp_path: Path) -> Iterator[EnrolServer]:
    with serve_enrolment(tmp_path) as serving:
        yield serving


@pytest.fixture
def state(tmp_path: Path, server: EnrolServer) -> StateFolder:
    """An enrolled device that runs 2.0.0 and had 1.0.0 before."""
    folder = StateFolder(tmp_path / "state")
    assert enrol(server, folder.root) == 0
    slots, installed = Slots(folder.slots), []
    for slot, version in (("a", "1.0.0"), ("b", "2.0.0")):
        archive = small_bundle(version)
        staging = slots.staging(State(candidate=Installed(slot, Bundle(archive).sha256, len(archive))))
        staging.part().write_bytes(archive)
        staging.seal()
        installed.append(Installed(slot=slot, sha256=Bundle(archive).sha256, length=len(archive), version=version))
    Journal(folder.journal, State).write(State(active=installed[1], previous=installed[0]))
    repository = MemoryRepository()
    Trust(folder.tuf, repository.root_v1, MemoryFiles(repository.files), TrustedTime(folder.time, SystemClock(), BUILT_AT)).refresh()
    open_outbox(folder.outbox).close()
    return folder


def enrol(server: EnrolServer, root: Path, *, device: str = DEVICE, token: str | None = None) -> int:
    text = token or server.token().text()
    return cli.main(["enrol", "--server", server.url, "--token", text, "--device", device, "--state", str(root)])


class TestEnrol:
    def test_done(self, server: EnrolServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert enrol(server, tmp_path / "state") == 0
        assert "dev-1 belongs to fleet demo" in capsys.readouterr().out

    def test_the_token_may_come_on_stdin(self, server: EnrolServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sys, "stdin", io.StringIO(server.token().text() + "\n"))
        assert enrol(server, tmp_path / "state", token="-") == 0

    @pytest.mark.parametrize(
        ("device", "token", "code"),
        [
            pytest.param("Dev_1", None, 2, id="an id outside the charset"),
            pytest.param("d" * 65, None, 2, id="an id that is too long"),
            pytest.param(DEVICE, "ef1.no.token", 2, id="no token"),
        ],
    )
    def test_bad_input(self, server: EnrolServer, tmp_path: Path, device: str, token: str | None, code: int) -> None:
        assert enrol(server, tmp_path / "state", device=device, token=token) == code
        assert not (tmp_path / "state" / "identity").exists()

    def test_a_refusal_fails_and_never_shows_the_token(
        self, server: EnrolServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        server.refuse = (409, b'{"error": {"code": "token-used", "message": "used before"}}')
        assert enrol(server, tmp_path / "state") == 1
        said = capsys.readouterr()
        assert "used before [token-used]" in said.err
        assert server.token().secret not in said.out + said.err


class TestStatus:
    def test_as_json(self, state: StateFolder, capsys: pytest.CaptureFixture[str]) -> None:
        capsys.readouterr()
        assert cli.main(["status", "--state", str(state.root), "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert (found["device"], found["active"]["version"], found["previous"]["version"]) == (DEVICE, "2.0.0", "1.0.0")
        assert (found["running"], found["phase"], found["epoch"]) == (False, "idle", "epoch-1")
        assert found["ledger"]["telemetry"] == {"produced": 0, "acknowledged": 0, "queued": 0, "dropped": {}, "oldest": 0}

    def test_for_a_person(self, state: StateFolder, capsys: pytest.CaptureFixture[str]) -> None:
        assert cli.main(["status", "--state", str(state.root)]) == 0
        assert "bundle   2.0.0" in capsys.readouterr().out

    def test_beside_a_running_agent(self, state: StateFolder, capsys: pytest.CaptureFixture[str]) -> None:
        with state.lock():
            capsys.readouterr()
            assert cli.main(["status", "--state", str(state.root), "--json"]) == 0
            assert json.loads(capsys.readouterr().out)["running"]

    def test_why_an_update_does_not_go_on(self, state: StateFolder, capsys: pytest.CaptureFixture[str]) -> None:
        """Only the running agent knows; without one the journal's last word stands."""
        Journal(state.journal, State).write(State(error="bad-model: too deep"))
        StatusFile(state.status).show(Report(1, True, "mqtts://broker", "5", "csv:x", error="window: closed"))
        with state.lock():
            assert cli.main(["status", "--state", str(state.root)]) == 0
            assert "error    window: closed" in capsys.readouterr().out
        assert cli.main(["status", "--state", str(state.root)]) == 0
        assert "error    bad-model: too deep" in capsys.readouterr().out

    @pytest.mark.parametrize(
        ("done_bytes", "shown"), [(0, "0 % of 51200000"), (5_119_999, "0 %"), (30_000_000, "50 %"), (51_200_000, "100 %")]
    )
    def test_a_download_is_shown_in_steps(
        self, state: StateFolder, capsys: pytest.CaptureFixture[str], done_bytes: int, shown: str
    ) -> None:
        download = downloading(Download("bundles/toy-3.bundle", done_bytes, 51_200_000, "delta"))
        StatusFile(state.status).show(Report(1, True, "mqtts://broker", "5", "csv:x", download=download))
        with state.lock():
            assert cli.main(["status", "--state", str(state.root)]) == 0
            assert f"download bundles/toy-3.bundle by delta: {shown}" in capsys.readouterr().out


class TestDownloadSettings:
    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            pytest.param(["--download-rate", "5"], "download_rate is 5, it must be 1024 to", id="rate"),
            pytest.param(["--download-window", "25:00-01:00"], "download_window is '25:00-01:00', it must be HH:MM-HH:MM", id="window"),
        ],
    )
    def test_one_out_of_range_is_named(self, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str) -> None:
        assert cli.main(["run", "--state", str(tmp_path), "--source", "csv:x", *arguments]) == 2
        assert said in capsys.readouterr().err


class TestVerify:
    def test_sound(self, state: StateFolder, capsys: pytest.CaptureFixture[str]) -> None:
        capsys.readouterr()
        assert cli.main(["verify", "--state", str(state.root), "--json"]) == 0
        assert {name: check["ok"] for name, check in json.loads(capsys.readouterr().out)["checks"].items()} == {
            "identity": True,
            "bundle": True,
            "metadata": True,
        }

    def test_a_flipped_byte_in_the_active_bundle(self, state: StateFolder, capsys: pytest.CaptureFixture[str]) -> None:
        path = Slots(state.slots).path("b")
        path.chmod(0o600)
        path.write_bytes(path.read_bytes()[:-1] + b"\xff")
        assert cli.main(["verify", "--state", str(state.root)]) == 1
        assert "FAILED  bundle" in capsys.readouterr().out

    def test_metadata_that_is_gone(self, state: StateFolder) -> None:
        (state.tuf / "timestamp.json").unlink()
        assert cli.main(["verify", "--state", str(state.root)]) == 1

    def test_a_journal_that_is_damaged(self, state: StateFolder) -> None:
        state.journal.write_bytes(b"{")
        assert cli.main(["verify", "--state", str(state.root)]) == 1


class TestRollback:
    def test_the_wish_is_left_for_the_agent(self, state: StateFolder, capsys: pytest.CaptureFixture[str]) -> None:
        assert cli.main(["rollback", "--state", str(state.root)]) == 0
        assert Requests(state.root).asked(ROLLBACK)
        assert "roll back to 1.0.0" in capsys.readouterr().out

    def test_it_is_told_to_a_script(self, state: StateFolder, capsys: pytest.CaptureFixture[str]) -> None:
        capsys.readouterr()
        assert cli.main(["rollback", "--state", str(state.root), "--json"]) == 0
        told = json.loads(capsys.readouterr().out)
        assert (told["version"], len(told["sha256"]), told["pid"]) == ("1.0.0", 64, None)

    def test_nothing_to_go_back_to(self, state: StateFolder) -> None:
        Journal(state.journal, State).write(State())
        assert cli.main(["rollback", "--state", str(state.root)]) == 2
        assert not Requests(state.root).asked(ROLLBACK)


class TestQuarantine:
    def test_none(self, state: StateFolder, capsys: pytest.CaptureFixture[str]) -> None:
        assert cli.main(["quarantine", "--state", str(state.root)]) == 0
        assert capsys.readouterr().out == "none\n"

    def test_it_is_listed_for_a_script(self, state: StateFolder, capsys: pytest.CaptureFixture[str]) -> None:
        Journal(state.journal, State).write(State(quarantined=("a" * 64,)))
        assert cli.main(["quarantine", "--state", str(state.root), "--json"]) == 0
        assert json.loads(capsys.readouterr().out) == {"quarantined": ["a" * 64], "clearing": False}
        assert not Requests(state.root).asked(PARDON)

    def test_the_wish_to_lift_it_is_left_for_the_agent(self, state: StateFolder, capsys: pytest.CaptureFixture[str]) -> None:
        assert cli.main(["quarantine", "--state", str(state.root), "--clear"]) == 0
        assert Requests(state.root).asked(PARDON)
        assert "the agent will when it starts" in capsys.readouterr().out


class TestUsage:
    @pytest.mark.parametrize("command", ["status", "verify", "rollback", "quarantine"])
    def test_no_state_folder(self, command: str, tmp_path: Path) -> None:
        assert cli.main([command, "--state", str(tmp_path / "none")]) == 2

    @pytest.mark.parametrize("command", ["status", "verify"])
    def test_not_enrolled(self, command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert cli.main([command, "--state", str(tmp_path)]) == 2
        assert "edge-agent enrol" in capsys.readouterr().err

    def test_run_needs_an_identity(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert cli.main(["run", "--state", str(tmp_path), "--source", "csv:none"]) == 2
        assert "[not-enrolled]" in capsys.readouterr().err

    def test_run_needs_a_source_that_exists(self, state: StateFolder, capsys: pytest.CaptureFixture[str]) -> None:
        assert cli.main(["run", "--state", str(state.root), "--source", "tape:reel"]) == 2
        assert "[source]" in capsys.readouterr().err

    def test_a_second_agent_on_the_same_state(self, state: StateFolder, capsys: pytest.CaptureFixture[str]) -> None:
        with state.lock():
            assert cli.main(["run", "--state", str(state.root), "--source", "csv:none"]) == 2
        assert "[locked]" in capsys.readouterr().err

    def test_help_shows_examples(self, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit) as ended:
            cli.main(["--help"])
        assert ended.value.code == 0
        assert "edge-agent run --state" in capsys.readouterr().out


class TestUnforeseen:
    """One line, and no traceback, for it could show secrets; asked for, the traceback comes."""

    @pytest.mark.parametrize(("level", "traced"), [("info", False), ("debug", True)])
    def test_a_mistake_is_one_line(
        self, level: str, traced: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(holdings, "existing", lambda _: 1 / 0)
        assert cli.main(["--log-level", level, "status", "--state", str(tmp_path)]) == 1
        said = capsys.readouterr().err
        assert "ZeroDivisionError" in said.splitlines()[-1]
        assert said.endswith("[internal]\n")
        assert ("Traceback" in said) is traced
