"""Cameras that vanish and return: a device behind a scripted driver, and network cameras through FFmpeg."""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from itertools import islice

import numpy as np
import pytest

from edge_agent.clock import SystemClock
from edge_agent.ports import Input
from edge_agent.sources.camera import Camera
from edge_agent.sources.factory import open_source
from fleet_contract.inputs import ImageInput
from tests.fakes import network_camera
from tests.fakes.agent_run_world import FakeClock

GREY = ImageInput(tensor="input", height=8, width=8, channels=1)
MAX_LOOKS = 2_000


class ScriptedCapture:
    """Gives so many grey pictures, then none."""

    def __init__(self, pictures: int) -> None:
        self._left = pictures
        self.released = False

    def read(self) -> tuple[bool, np.ndarray | None]:
        self._left -= 1
        return (True, np.full((16, 16), 7, np.uint8)) if self._left >= 0 else (False, None)

    def release(self) -> None:
        self.released = True


class Driver:
    """Opens what the script holds in turn; None is a device that is not there."""

    def __init__(self, script: Sequence[int | None]) -> None:
        self._script = list(script)
        self.opened: list[ScriptedCapture] = []
        self.asked = 0

    def __call__(self, address: str | int) -> ScriptedCapture | None:
        self.asked += 1
        pictures = self._script.pop(0) if self._script else None
        if pictures is None:
            return None
        self.opened.append(ScriptedCapture(pictures))
        return self.opened[-1]


def taken_from(stream: Iterator[Input | None], count: int) -> list[Input]:
    found = list(islice((taken for taken in islice(stream, MAX_LOOKS) if taken is not None), count))
    assert len(found) == count
    return found


def test_a_camera_that_vanishes_and_returns_is_counted_and_goes_on() -> None:
    driver = Driver([2, None, None, 3, 0, 1])
    camera = Camera("/dev/video0", FakeClock(step_s=0.5), driver)
    found = taken_from(camera.read(GREY, None), 6)
    assert [taken.follows for taken in found] == [True, True, False, True, True, False]
    assert len({taken.id for taken in found}) == 6
    assert camera.losses() == {"source-lost": 3}
    assert camera.losses() == {}


def test_one_that_is_gone_is_let_go_and_looked_for_once_a_second() -> None:
    clock = FakeClock()
    driver = Driver([1, None, 1])
    stream = Camera("/dev/video0", clock, driver).read(GREY, None)
    assert next(stream) is not None
    assert [next(stream) for _ in range(50)] == [None] * 50
    assert (driver.asked, driver.opened[0].released) == (1, True)
    clock.elapsed_s = 1.0
    assert [next(stream) for _ in range(50)] == [None] * 50
    assert driver.asked == 2
    clock.elapsed_s = 2.0
    assert next(stream) is not None


def test_a_reader_that_goes_lets_the_camera_go() -> None:
    driver = Driver([9])
    stream = Camera("/dev/video0", FakeClock(), driver).read(GREY, None)
    next(stream)
    stream.close()
    assert driver.opened[0].released


@pytest.mark.parametrize("scheme", ["http", "rtsp"])
def test_a_network_camera_that_is_unplugged_and_plugged_in_again(scheme: str) -> None:
    with network_camera.running(scheme, 100) as camera:
        source = open_source(f"camera:{camera.url}", SystemClock())
        with closing(source):
            stream = source.read(GREY, None)
            first = taken_from(stream, 3)
            camera.unplug()
            lost: Counter[str] = Counter()
            while not lost["source-lost"]:
                next(stream)
                lost += Counter(source.losses())
            camera.plug_in()
            again = next(taken for taken in stream if taken is not None and not taken.follows)
    assert abs(float(np.mean(first[0].values)) - 100) < 5
    assert abs(float(np.mean(again.values)) - 100) < 5
    assert lost["source-lost"] == 1
