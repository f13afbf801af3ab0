"""docs/model-tools.md, read as a script: its commands are run one after another, as a newcomer would."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from model_tools import cli
from tests.architecture.sources import ROOT

DOCUMENT = (ROOT / "docs" / "model-tools.md").read_text()
LINES = re.compile(r"[^\n]*<<'END'\n.*?^END$|[^\n]+", re.MULTILINE | re.DOTALL)
LEFT = ("data.html", "DATA.md", "quantize.html", "compare.html", "why.html", "tissue.bundle", "tissue.bundle.sig")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", DOCUMENT, re.MULTILINE | re.DOTALL)


def shell(script: str) -> None:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(["sh", "-eux"], input=script, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def tools(words: list[str]) -> None:
    """In this process: most of a command's time is its start."""
    try:
        cli.main(words)
    except SystemExit as ended:
        assert not ended.code, words


@pytest.mark.e2e
@pytest.mark.skipif(shutil.which("openssl") is None, reason="the tutorial makes a key with openssl, which is not on the PATH")
def test_every_command_of_the_tutorial_works(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    for line in LINES.findall("".join(blocks("sh"))):
        words = shlex.split(line) if "<<" not in line else []
        if words[:1] == ["model-tools"]:
            tools(words[1:])
        else:
            shell(line)
    assert {path.name for path in tmp_path.iterdir()} >= {*LEFT}
    (program,) = blocks("python")
    shell(f"python - <<'END'\n{program}END")


def test_every_command_is_told_of_somewhere() -> None:
    told = "".join(path.read_text() for path in (ROOT / "docs").rglob("*.md"))
    commands = typer.main.get_command(cli.app).commands
    assert [name for name in commands if f"model-tools {name}" not in told] == []
