"""The command line: what each command makes, prints and refuses, and its exit code."""

import json
import os
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from fleet_contract import online_keys
from fleet_server import cli
from model_tools.keys import metadata

PATIENCE_S = 60.0


def run(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "fleet_server", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, env={**os.environ, **environment}, check=False)


@dataclass(frozen=True)
class Founded:
    home: Path
    keys: Path
    token: str


@pytest.fixture(scope="module")
def founded(tmp_path_factory: pytest.TempPathFactory) -> Founded:
    folder = tmp_path_factory.mktemp("founded")
    done = run("init", "--home", folder / "home", "--keys", folder / "keys", "--fleet", "demo", "--json")
    assert done.returncode == 0, done.stderr
    return Founded(folder / "home", folder / "keys", json.loads(done.stdout.splitlines()[-1])["admin_token"])


def test_init_makes_a_home_with_no_offline_key_in_it(founded: Founded) -> None:
    assert {path.name for path in founded.keys.glob("*.pem")} == {
        f"{name}.pem" for name in ("root-1", "root-2", "root-3", "targets", "releases")
    }
    assert {path.name for path in (founded.home / "keys").iterdir()} == {"snapshot.pem", "timestamp.pem", "orders.pem", "online.json"}
    assert founded.token.encode() not in (founded.home / "fleet.db").read_bytes()


def test_init_for_a_ceremony_elsewhere_shows_the_key_ids_to_compare(tmp_path: Path) -> None:
    done = run("init", "--home", tmp_path / "home", "--json")
    keyids = json.loads(done.stdout.splitlines()[-1])["keyids"]
    online = online_keys.decode((tmp_path / "home" / "keys" / "online.json").read_bytes())
    assert keyids == {role: key.keyid for role, key in metadata.online(online).items()}
    done = run("init", "--home", tmp_path / "another")
    assert [done.stdout.count(f"{role} ") > 0 for role in keyids] == [True] * 3


@pytest.mark.parametrize(
    ("home", "keys"),
    [pytest.param("home", "fresh-keys", id="home-in-use"), pytest.param("fresh-home", "keys", id="keys-in-use")],
)
def test_init_overwrites_nothing(founded: Founded, home: str, keys: str) -> None:
    folder = founded.home.parent
    before = {path: path.read_bytes() for path in [*founded.keys.iterdir(), *(founded.home / "ca").iterdir()]}
    done = run("init", "--home", folder / home, "--keys", folder / keys)
    assert (done.returncode, "Traceback" in done.stderr) == (2, False)
    assert before == {path: path.read_bytes() for path in before}
    assert not (folder / "fresh-home").exists()
    assert not (folder / "fresh-keys").exists()


def test_init_keeps_the_offline_keys_out_of_the_home(tmp_path: Path) -> None:
    done = run("init", "--home", tmp_path / "home", "--keys", tmp_path / "home" / "keys")
    assert done.returncode == 2
    assert "--keys" in done.stderr


def test_token_create_prints_a_token_for_a_known_role_only(founded: Founded) -> None:
    assert run("token", "create", "--role", "viewer", EDGEFLEET_HOME=str(founded.home)).stdout.startswith("eft_")
    refused = run("token", "create", "--home", founded.home, "--role", "king")
    assert refused.returncode == 2
    assert "viewer" in refused.stderr


def test_migrate_says_that_there_is_nothing_to_do(founded: Founded) -> None:
    assert run("migrate", "--home", founded.home).returncode == 0


@pytest.mark.parametrize("command", [["init"], ["up"], ["token", "create"], ["migrate"]], ids=" ".join)
def test_help_shows_an_example(command: list[str]) -> None:
    assert "fleet-server" in run(*command, "--help", COLUMNS="200").stdout


def test_up_without_a_server_says_what_to_do(tmp_path: Path) -> None:
    done = run("up", "--home", tmp_path)
    assert (done.returncode, "fleet-server init" in done.stderr, "Traceback" in done.stderr) == (2, True, False)


@pytest.mark.parametrize("option", ["--https-port", "--mqtt-port"])
def test_up_on_a_taken_port_names_the_option(founded: Founded, option: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        ports = {"--https-port": "0", "--mqtt-port": "0", option: str(taken.getsockname()[1])}
        done = run("up", "--home", founded.home, "--broker", "embedded", *(part for pair in ports.items() for part in pair))
    assert (done.returncode, option in done.stderr, "Traceback" in done.stderr) == (2, True, False)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        pytest.param("[task", "task file", id="not-toml"),
        pytest.param("[task]\n", "name", id="nameless"),
        pytest.param(None, "task file", id="missing"),
    ],
)
def test_up_with_an_unusable_task_file_names_it(founded: Founded, tmp_path: Path, content: str | None, said: str) -> None:
    path = tmp_path / "task.toml"
    if content is not None:
        path.write_text(content)
    done = run("up", "--home", founded.home, "--broker", "mqtts://localhost:1", "--https-port", 0, "--task", path)
    assert (done.returncode, said in done.stderr, str(path) in done.stderr) == (2, True, True)


@pytest.mark.parametrize(("options", "traced"), [pytest.param([], False, id="as usual"), pytest.param(["--debug"], True, id="debug")])
def test_a_mistake_is_one_line_and_shows_where_only_when_asked(options: list[str], traced: bool, capsys, monkeypatch) -> None:
    monkeypatch.setattr(cli.settings, "load", lambda _: 1 / 0)
    monkeypatch.setattr(sys, "argv", ["fleet-server", *options, "migrate", "--home", "."])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    said = capsys.readouterr().err
    assert (ended.value.code, "ZeroDivisionError" in said.splitlines()[-1], "Traceback" in said) == (1, True, traced)
