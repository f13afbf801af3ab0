"""A camera, a stream or a video file that OpenCV opens."""

from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np

from edge_agent.errors import Fatal
from edge_agent.ports import Clock, Input
from edge_agent.sources import pictures
from edge_agent.sources.address import redact
from edge_agent.sources.losses import Losses
from fleet_contract import images
from fleet_contract.inputs import ImageInput, InputSpec

SOURCE_LOST = "source-lost"
_REOPEN_S = 1.0
_OPEN_TIMEOUT_S = 10
_SILENCE_TIMEOUT_S = 5


class Capture(Protocol):
    """What gives pictures: cv2.VideoCapture, as far as it is used."""

    def read(self) -> tuple[bool, np.ndarray | None]:
        """The next picture, grey or BGR, or (False, None) when there is none any more."""

    def release(self) -> None: ...


class Opener(Protocol):
    def __call__(self, address: str | int) -> Capture | None:
        """None when there is no such camera now."""


def open_capture(address: str | int) -> Capture | None:
    """A number or /dev/videoN by V4L2, all else by FFmpeg, which gives up a stream that is silent for five seconds."""
    capture = cv2.VideoCapture()
    if isinstance(address, int) or address.startswith("/dev/"):
        is_open = capture.open(address, cv2.CAP_V4L2)
    else:
        patience = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, 1000 * _OPEN_TIMEOUT_S, cv2.CAP_PROP_READ_TIMEOUT_MSEC, 1000 * _SILENCE_TIMEOUT_S]
        is_open = capture.open(address, cv2.CAP_FFMPEG, patience) or ("://" not in address and capture.open(address))
    if not is_open:
        capture.release()
    return capture if is_open else None


class Camera:
    """It cannot resume: no cursor; ids are frame numbers after the time of opening. Samples are the picture as the model saw it. A file ends; a
    device or stream that fails is counted and opened again, at most once a second, and its first picture then does not follow."""

    def __init__(self, address: str | int, clock: Clock, open_capture: Opener = open_capture) -> None:
        self._address, self._clock, self._open_capture = address, clock, open_capture
        self._ends = isinstance(address, str) and Path(address).is_file()
        self._losses = Losses()
        self._tried_s: float | None = None

    def read(self, spec: InputSpec, after: str | None) -> Iterator[Input | None]:
        wanted = pictures.need_image(spec, f"the camera {redact(str(self._address))}")
        for opened in count():
            while (capture := self._open()) is None:
                yield None
            try:
                yield from self._pictures(capture, wanted, follows=not opened)
            finally:
                capture.release()
            if self._ends:
                return
            self._losses.add(SOURCE_LOST)

    def losses(self) -> dict[str, int]:
        return self._losses.take()

    def close(self) -> None:
        """What is open ends with its reader."""

    def _pictures(self, capture: Capture, spec: ImageInput, *, follows: bool) -> Iterator[Input]:
        began = self._clock.now().strftime("%Y%m%dT%H%M%S.%f")
        for number in count(1):
            got, picture = capture.read()
            if not got or picture is None:
                return
            at = self._clock.now()
            values = images.fit(picture, spec)
            yield Input(f"{began}-{number:08d}", at, None, images.PNG, b"", values, follows=follows or number > 1)

    def _open(self) -> Capture | None:
        """At most once a second. Raises Fatal for a file that is no video."""
        now_s = self._clock.monotonic_s()
        if self._tried_s is not None and now_s - self._tried_s < _REOPEN_S:
            return None
        self._tried_s = now_s
        capture = self._open_capture(self._address)
        if self._ends and capture is None:
            raise Fatal(f"{self._address} is no video that OpenCV can read", code="source")
        return capture
