"""The local runner, with real processes in place of the workbench."""

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest

from fleet_contract.job import JobResult, Progress
from fleet_server.errors import Unavailable
from fleet_server.jobs.local import LOG, PROCESS, LocalRunner
from fleet_server.ports import JobLook

_PAUSE = threading.Event()
NOW = datetime(2026, 1, 1, tzinfo=UTC)
RESULT = msgspec.json.encode(JobResult(accepted=False, reason="no better", gates=[])).decode()
LINE = msgspec.json.encode(Progress("train", 0.25, "half")).decode()


def python_that(folder: Path, body: str) -> str:
    """A stand-in for the interpreter: called as `<it> -m model_tools job FOLDER`, runs `body` in FOLDER."""
    program = folder / "python"
    program.write_text(f"#!{sys.executable}\nimport os, sys, time\nos.chdir(sys.argv[-1])\n{body}\n")
    program.chmod(0o755)
    return str(program)


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Callable[..., LocalRunner]]:
    made: list[LocalRunner] = []
    (tmp_path / "job").mkdir()

    def runner(body: str, **options: float) -> LocalRunner:
        made.append(LocalRunner(python_that(tmp_path, body), **options))
        return made[-1]

    yield runner
    for each in made:
        each.close()


def until(runner: LocalRunner, folder: Path, wanted: Callable[[JobLook], bool], now: datetime = NOW) -> JobLook:
    deadline = time.monotonic() + 20
    while not wanted(look := runner.look(folder, now)):
        if time.monotonic() > deadline:
            raise AssertionError(f"never came: {look}")
        _PAUSE.wait(0.01)
    return look


@pytest.mark.parametrize(
    ("body", "result", "failure"),
    [
        pytest.param(f"open('result.json', 'w').write({RESULT!r})", "no better", "", id="a result"),
        pytest.param(
            f"open('result.json', 'w').write({RESULT!r}); sys.exit(3)", "no better", "", id="a result, and the exit code of refusal"
        ),
        pytest.param("sys.exit('bad data')", "", "bad data", id="no result: the last words of stderr"),
        pytest.param("os.abort()", "", "it said nothing", id="killed"),
        pytest.param("open('result.json', 'w').write('{')", "", "cannot be read", id="half a result"),
    ],
)
def test_how_a_job_ends(run: Callable[..., LocalRunner], tmp_path: Path, body: str, result: str, failure: str) -> None:
    runner, folder = run(body), tmp_path / "job"
    runner.start(folder, NOW)
    look = until(runner, folder, lambda look: not look.running)
    assert (look.result.reason if look.result else "") == result
    assert failure in (look.failure or "")


def test_progress_is_read_while_it_runs(run: Callable[..., LocalRunner], tmp_path: Path) -> None:
    runner, folder = run(f"print({LINE!r}); print('noise', flush=True); time.sleep(60)"), tmp_path / "job"
    runner.start(folder, NOW)
    assert until(runner, folder, lambda look: look.progress is not None).progress == Progress("train", 0.25, "half")


def test_the_numeric_libraries_are_bounded(run: Callable[..., LocalRunner], tmp_path: Path) -> None:
    runner, folder = run("sys.exit(os.environ['OMP_NUM_THREADS'])", threads=3), tmp_path / "job"
    runner.start(folder, NOW)
    assert "3" in until(runner, folder, lambda look: not look.running).failure


def test_a_job_that_takes_too_long_is_ended(run: Callable[..., LocalRunner], tmp_path: Path) -> None:
    runner, folder = run("time.sleep(60)", timeout_s=10), tmp_path / "job"
    runner.start(folder, NOW)
    assert runner.look(folder, NOW).running
    assert "longer than 10 s" in runner.look(folder, NOW + timedelta(seconds=11)).failure
    assert not runner.look(folder, NOW).running


def test_a_restarted_server_finds_a_running_job_and_its_end(run: Callable[..., LocalRunner], tmp_path: Path) -> None:
    folder = tmp_path / "job"
    first = run(f"open('go').read() if os.path.exists('go') else time.sleep(0.2); open('result.json', 'w').write({RESULT!r})")
    first.start(folder, NOW)
    restarted = LocalRunner()
    assert until(restarted, folder, lambda look: not look.running).result.reason == "no better"


def test_a_process_that_got_the_number_of_a_dead_one_is_not_the_job(run: Callable[..., LocalRunner], tmp_path: Path) -> None:
    folder = tmp_path / "job"
    (folder / PROCESS).write_text(f'{{"pid": {os.getpid()}, "born": "1", "started_at": "2026-01-01T00:00:00Z"}}')
    (folder / LOG).write_text("last words\n")
    assert LocalRunner().look(folder, NOW).failure == "it ended without a result: last words"


def test_a_second_attempt_forgets_the_first(run: Callable[..., LocalRunner], tmp_path: Path) -> None:
    folder = tmp_path / "job"
    (folder / "result.json").write_text(RESULT)
    runner = run("sys.exit('again')")
    runner.start(folder, NOW)
    assert "again" in until(runner, folder, lambda look: not look.running).failure


def test_closing_ends_what_runs(run: Callable[..., LocalRunner], tmp_path: Path) -> None:
    runner, folder = run("time.sleep(60)"), tmp_path / "job"
    runner.start(folder, NOW)
    runner.close()
    assert not LocalRunner().look(folder, NOW).running


def test_an_interpreter_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(Unavailable):
        LocalRunner(str(tmp_path / "none")).start(tmp_path, NOW)
