"""docs/keys.md, read as a script: its commands are run one after another, as a stranger would."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from fleet_server import cli as server_cli
from model_tools import cli as tools_cli
from tests.architecture.sources import ROOT

BLOCK = re.compile(r"^```sh( softhsm)?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
KEYS = ("root-1", "root-2", "root-3", "root-4", "root-5", "targets", "targets-2", "releases", "releases-2")
HAS_TOKEN = Path("/usr/lib/softhsm/libsofthsm2.so").exists() and shutil.which("softhsm2-util") is not None
PROGRAMS: dict[str, Callable[[], None]] = {"fleet-server": server_cli.main, "model-tools": tools_cli.main}
BLOCKS = BLOCK.findall((ROOT / "docs" / "keys.md").read_text())


def shell(script: str) -> None:
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(["sh", "-eux"], input=script, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def program(words: list[str], patch: pytest.MonkeyPatch) -> None:
    """In this process: most of a command's time is its start."""
    patch.setattr(sys, "argv", words)
    try:
        PROGRAMS[words[0]]()
    except SystemExit as ended:
        assert not ended.code, words


@pytest.mark.e2e
def test_every_command_of_the_runbook_works(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "passphrases").mkdir()
    for name in KEYS:
        (tmp_path / "passphrases" / name).write_text(f"a passphrase for {name}\n")
    monkeypatch.chdir(tmp_path)
    for needs_token, body in BLOCKS:
        if needs_token:
            if HAS_TOKEN:
                shell(body)
            continue
        for line in body.splitlines():
            words = shlex.split(line)
            if words[0] in PROGRAMS:
                program(words, monkeypatch)
            else:
                shell(line)
    assert len(BLOCKS) >= 8
    roots = sorted(int(path.name.split(".")[0]) for path in Path("server/tuf/metadata").glob("*.root.json"))
    assert roots == list(range(1, 7 + HAS_TOKEN))
