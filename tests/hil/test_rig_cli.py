"""hil fleet on the command line: bad input is told of before anything runs, and a run that is ended leaves nothing running."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest


def run(*options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "hil", "fleet", *options], capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        pytest.param([], "--server is missing", id="no server"),
        pytest.param(["--home", "{tmp}/run", "--broker", "rabbit"], "--broker: 'rabbit'", id="an unknown broker"),
        pytest.param(["--home", "{tmp}/run", "--html", "{tmp}/no/page.html"], "--html:", id="a page in no folder"),
    ],
)
def test_bad_input(tmp_path: Path, options: list[str], told: str) -> None:
    ended = run(*(option.format(tmp=tmp_path) for option in options))
    assert (ended.returncode, told in ended.stderr) == (2, True)


def test_a_file_that_holds_no_token_is_not_repeated(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("-----BEGIN SECRET-----\nhush\n")
    (tmp_path / "ca.pem").write_text("")
    remote = ["--server", "https://localhost:9", "--ca", str(tmp_path / "ca.pem"), "--identities", str(tmp_path / "ids")]
    ended = run(*remote, "--token-file", str(tmp_path / "token"))
    assert (ended.returncode, "--token-file" in ended.stderr, "hush" in ended.stderr) == (2, True, False)


@pytest.mark.e2e
def test_whoever_ends_a_run_ends_the_programs_that_it_has_started(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "hil", "fleet", "--devices", "1", "--home", str(tmp_path / "run"), "--broker", "embedded"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as playing:
        heard = []
        for line in playing.stdout or ():
            heard.append(line)
            if "Enrolling" in line:
                playing.terminate()
                break
        playing.communicate(timeout=60)
    assert playing.returncode == 128 + signal.SIGTERM, heard
    assert not [process for process in Path("/proc").iterdir() if process.name.isdigit() and str(tmp_path) in _command(process)]


def _command(process: Path) -> str:
    try:
        return (process / "cmdline").read_text(errors="replace")
    except OSError:
        return ""
