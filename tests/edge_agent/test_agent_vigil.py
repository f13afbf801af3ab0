"""Who waits awake, and when."""

import pytest

from edge_agent.vigil import Vigil

AWAKE_S = 0.5
SLEPT, SEEN = "slept", "seen"


class Thread:
    """Its time passes in looks, of a tenth of a second, and in sleep."""

    def __init__(self, awake_s: float = AWAKE_S) -> None:
        self.now_s = 0.0
        self.steps_aside = 0
        self._vigil = Vigil(awake_s, lambda: self.now_s, self._step_aside)

    def wait(self, comes_in_s: float) -> str:
        comes_s = self.now_s + comes_in_s

        def look() -> str | None:
            self.now_s += 0.1
            return SEEN if self.now_s >= comes_s else None

        def sleep() -> str:
            self.now_s = max(self.now_s, comes_s)
            return SLEPT

        return self._vigil.keep(look, sleep)

    def _step_aside(self) -> None:
        self.steps_aside += 1


@pytest.mark.parametrize(
    ("waits_s", "seen"),
    [
        pytest.param([0.2], [SLEPT], id="the first is slept for"),
        pytest.param([0.2, 0.2, 0.3], [SLEPT, SEEN, SEEN], id="a closed loop is watched"),
        pytest.param([0.6, 0.6, 0.6], [SLEPT, SLEPT, SLEPT], id="what comes more slowly is slept for"),
        pytest.param([0.2, 9.0, 0.2], [SLEPT, SLEPT, SLEPT], id="after a vain watch it sleeps"),
        pytest.param(
            [0.2, 9.0, *[0.2] * 18], [SLEPT, SLEPT, *[SLEPT] * 17, SEEN], id="for sixteen times and one to see whether it is worth it again"
        ),
    ],
)
def test_a_thread_watches_while_it_is_worth_it(waits_s: list[float], seen: list[str]) -> None:
    thread = Thread()
    assert [thread.wait(comes_in_s) for comes_in_s in waits_s] == seen


def test_zero_never_watches() -> None:
    thread = Thread(awake_s=0.0)
    assert [thread.wait(0.0) for _ in range(5)] == [SLEPT] * 5


def test_a_watch_offers_the_processor_after_each_look_and_ends() -> None:
    thread = Thread()
    thread.wait(0.1)
    begun_s = thread.now_s
    assert thread.wait(60.0) == SLEPT
    assert thread.steps_aside == 5
    assert thread.now_s == begun_s + 60.0
