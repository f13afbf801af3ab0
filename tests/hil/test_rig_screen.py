"""What a person, or a log file, sees of a scenario."""

import io

import pytest
from rich.console import Console

from hil.screen import Screen


class _Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> _Clock:
    return _Clock()


def _plain(clock: _Clock) -> tuple[Screen, io.StringIO]:
    out = io.StringIO()
    return Screen(Console(file=out, width=40), clock), out


def test_without_a_terminal_each_step_is_two_plain_lines(clock):
    screen, out = _plain(clock)
    with screen.step("train [a model]") as step:
        clock.now_s = 3.0
        step.say("a line that is much longer than the forty characters of this console")
    assert out.getvalue().splitlines() == [
        "[  0.0 s] train [a model]",
        "    a line that is much longer than the forty characters of this console",
        "[  3.0 s] done: train [a model] (3.0 s)",
    ]


def test_no_figure_of_a_table_is_cut_however_narrow_the_console(clock):
    screen, out = _plain(clock)
    row = ["lossy-link + slow-link", *(f"{at},000,000" for at in range(1, 10))]
    screen.table("Scenario", ["phase", *(f"column {at}" for at in range(1, 10))], [row])
    assert [line.split() for line in out.getvalue().splitlines() if "lossy" in line] == [" ".join(row).split()]


def test_progress_fills_no_log_file(clock):
    screen, out = _plain(clock)
    with screen.step("wait") as step:
        for second in range(12):
            clock.now_s = float(second)
            step.update(f"{second} frames")
    assert [line.strip() for line in out.getvalue().splitlines() if "frames" in line] == ["... 5 frames", "... 10 frames"]


def test_a_step_that_failed_is_not_called_done(clock):
    screen, out = _plain(clock)
    with pytest.raises(ValueError, match="no"), screen.step("try"):
        raise ValueError("no")
    assert "done" not in out.getvalue()
