"""Which scan appears before which camera, when; and the truth about every frame, which the product never sees."""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import zip_longest
from pathlib import Path

import numpy as np

from examples.digits import scans
from hil.camera import VirtualCamera

HEALTHY = ("camera-1", "camera-2")
FAULTY = "camera-3"
CAMERAS = (*HEALTHY, FAULTY)

_TRAINING_SCANS = 800
_BEFORE = {"camera-1": 100, "camera-2": 100, "camera-3": 70}
_FAULT = {"camera-1": 60, "camera-2": 60, "camera-3": 100}
_CHOICE = {"camera-3": 240}
_FRAMES_PER_S = 30.0


class Part(StrEnum):
    """BEFORE the fault, its first frames (FAULT), those that the server asks to choose from (CHOICE), and the TEST of the challenger."""

    BEFORE = "before"
    FAULT = "fault"
    CHOICE = "choice"
    TEST = "test"


@dataclass(frozen=True)
class Truth:
    """What one frame shows."""

    part: Part
    fouled: bool
    digit: str


@dataclass(frozen=True)
class Plan:
    """`parts[part][camera]` are that camera's scans. The healthy cameras read the same scans in TEST as in BEFORE (as new frames), so that champion and
    challenger are compared on the same handwriting; the fouled camera's TEST scans appear nowhere else. No camera reads a training scan."""

    training: list[scans.Scan]
    parts: Mapping[Part, Mapping[str, list[scans.Scan]]]


def plan(rng: np.random.Generator) -> Plan:
    rest = iter(scans.all_scans(rng))
    training = _take(rest, _TRAINING_SCANS)
    before = {camera: _take(rest, count) for camera, count in _BEFORE.items()}
    fault = {camera: _take(rest, count) for camera, count in _FAULT.items()}
    choice = {camera: _take(rest, count) for camera, count in _CHOICE.items()}
    test = {camera: before[camera] for camera in HEALTHY} | {FAULTY: list(rest)}
    return Plan(training, {Part.BEFORE: before, Part.FAULT: fault, Part.CHOICE: choice, Part.TEST: test})


@dataclass
class Studio:
    """The three cameras, and the only record of what they saw."""

    plan: Plan
    cameras: Mapping[str, VirtualCamera]
    rng: np.random.Generator
    truth: dict[tuple[str, str], Truth] = field(default_factory=dict)

    @classmethod
    def at(cls, folder: Path, plan: Plan, rng: np.random.Generator) -> "Studio":
        return cls(plan, {name: VirtualCamera(folder / name) for name in CAMERAS}, rng)

    def written(self) -> dict[str, int]:
        return {name: camera.written for name, camera in self.cameras.items()}

    def film(self, part: Part, cameras: tuple[str, ...] | None = None, incidents: Mapping[int, Callable[[], None]] | None = None) -> None:
        """Write the part's frames, in turn for each camera (None: all that have some), at the pace of a camera. `incidents` happen just before their
        round of frames."""
        cameras = cameras or tuple(self.plan.parts[part])
        pending = dict(incidents or {})
        for number, row in enumerate(zip_longest(*(self._frames(part, camera) for camera in cameras))):
            pending.pop(number, _nothing)()
            for shot in filter(None, row):
                camera, jpeg, truth = shot
                self.truth[camera, self.cameras[camera].write(jpeg)] = truth
            time.sleep(1 / _FRAMES_PER_S)

    def _frames(self, part: Part, camera: str) -> Iterator[tuple[str, bytes, Truth]]:
        fouled = camera == FAULTY and part is not Part.BEFORE
        for jpeg, digit in scans.frames(self.plan.parts[part][camera], self.rng, fouled=fouled):
            yield camera, jpeg, Truth(part, fouled, digit)


def _take(source: Iterator[scans.Scan], count: int) -> list[scans.Scan]:
    return [next(source) for _ in range(count)]


def _nothing() -> None:
    return None
