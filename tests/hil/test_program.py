"""Programs as child processes: what a rig guarantees about their end."""

import os
import sys
from pathlib import Path

import pytest

from hil.errors import NotInTime, ProgramFailed
from hil.program import Program, installed, run
from hil.waiting import wait_until

_SLEEPS = [sys.executable, "-c", "import time; print('ready', flush=True); time.sleep(60)"]
_LEAVES_A_CHILD = [
    sys.executable,
    "-c",
    "import subprocess, sys, time\n"
    "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
    "print(child.pid, flush=True)\ntime.sleep(60)",
]


def _gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return Path(f"/proc/{pid}/stat").exists() and Path(f"/proc/{pid}/stat").read_text().split()[2] == "Z"


def test_a_program_that_ended_is_reported_with_the_end_of_its_output(tmp_path):
    program = Program("talker", [sys.executable, "-c", "print('last words'); raise SystemExit(3)"], tmp_path / "talker.log")
    with pytest.raises(ProgramFailed, match=r"(?s)talker ended with code 3.*last words"):
        wait_until(lambda: False, "nothing", 20, check=program.check)


def test_kill_ends_the_process_and_close_may_follow(tmp_path):
    program = Program("sleeper", _SLEEPS, tmp_path / "sleeper.log")
    program.kill()
    assert not program.running
    program.close()


def test_close_reaches_the_children_that_a_killed_program_left(tmp_path):
    program = Program("parent", _LEAVES_A_CHILD, tmp_path / "parent.log")
    child = int(wait_until(lambda: program.log.read_text().strip(), "the child's id", 20))
    program.kill()
    program.close()
    wait_until(lambda: _gone(child), "the child's end", 10)


def test_run_returns_the_output_and_shows_each_line():
    lines = []
    assert run("two lines", [sys.executable, "-c", "print('one'); print('two')"], on_line=lines.append) == "one\ntwo\n"
    assert lines == ["one", "two"]


def test_run_says_why_a_program_failed():
    with pytest.raises(ProgramFailed, match=r"(?s)failing ended with code 2.*no such column"):
        run("failing", [sys.executable, "-c", "import sys; print('no such column', file=sys.stderr); sys.exit(2)"])


def test_a_console_script_that_is_missing_is_named():
    with pytest.raises(ProgramFailed, match="no-such-script"):
        installed("no-such-script")


def test_a_condition_that_stays_false_is_named_at_the_deadline():
    with pytest.raises(NotInTime, match=r"the moon: not within 0\.2 s"):
        wait_until(lambda: None, "the moon", 0.2)
