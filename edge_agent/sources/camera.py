"""Pictures: a folder into which a camera renames whole files, or a device, stream or video file that OpenCV opens."""

import os
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import cv2

from edge_agent.errors import Fatal
from edge_agent.ports import Clock, Input
from fleet_contract import images, limits
from fleet_contract.inputs import ImageInput, VectorInput

_REOPEN_S = 1.0
_SUFFIXES = (".jpg", ".jpeg", ".png")


class FolderCamera:
    """Reads files in name order; the cursor and the id are the file's name. A writer must write elsewhere (or under a dotted or other name) and
    rename into place. A name that sorts before one already read is never read. Files are left where they are.
    A picture too large for a sample is carried as the model saw it."""

    def __init__(self, folder: Path, clock: Clock) -> None:
        self._folder = folder
        self._clock = clock

    def read(self, spec: ImageInput | VectorInput, after: str | None) -> Iterator[Input | None]:
        _need_image(spec)
        last = after or ""
        while True:
            names = self._names_after(last)
            for name in names:
                last = name
                taken = self._take(name, spec)
                if taken is not None:
                    yield taken
            if not names:
                yield None

    def close(self) -> None:
        pass

    def _names_after(self, last: str) -> list[str]:
        try:
            with os.scandir(self._folder) as entries:
                return sorted(e.name for e in entries if e.name > last and _is_picture(e.name))
        except OSError as error:
            raise Fatal(f"the camera's folder {self._folder} cannot be read: {error.strerror}", code="source") from error

    def _take(self, name: str, spec: ImageInput) -> Input | None:
        """None when the file has gone meanwhile."""
        path = self._folder / name
        at = self._clock.now()
        try:
            size = path.stat().st_size
            data = path.read_bytes() if size <= limits.MAX_IMAGE_BYTES else b""
        except FileNotFoundError:
            return None
        except OSError:
            return Input(name, at, name, images.JPEG, b"", None, "unreadable-file")
        if size > limits.MAX_IMAGE_BYTES:
            return Input(name, at, name, images.JPEG, b"", None, images.TOO_LARGE)
        try:
            values = images.decode(data, spec)
        except images.Unreadable as error:
            return Input(name, at, name, images.media_type_of(data), data, None, error.reason)
        media_type = images.media_type_of(data)
        if len(data) > limits.MAX_SAMPLE_BYTES:
            media_type, data = images.encode(values)
        return Input(name, at, name, media_type, data, values)


class CaptureCamera:
    """A V4L2 device, stream URL or video file. It cannot resume: no cursor; ids are frame numbers after the time of opening.
    Samples are the picture as the model saw it. A file ends; a device or stream that fails is opened again."""

    def __init__(self, address: str | int, clock: Clock) -> None:
        self._address = address
        self._clock = clock
        self._ends = isinstance(address, str) and Path(address).is_file()
        self._capture = cv2.VideoCapture()
        self._tried_s: float | None = None

    def read(self, spec: ImageInput | VectorInput, after: str | None) -> Iterator[Input | None]:
        _need_image(spec)
        while True:
            while not self._open():
                yield None
            began = self._clock.now().strftime("%Y%m%dT%H%M%S.%f")
            for number in count(1):
                got, picture = self._capture.read()
                if not got:
                    break
                values = images.fit(picture, spec)
                media_type, data = images.encode(values)
                yield Input(f"{began}-{number:08d}", self._clock.now(), None, media_type, data, values)
            self._capture.release()
            if self._ends:
                return

    def _open(self) -> bool:
        """At most once a second. Raises Fatal for a file that is no video."""
        now_s = self._clock.monotonic_s()
        if self._tried_s is not None and now_s - self._tried_s < _REOPEN_S:
            return False
        self._tried_s = now_s
        opened = self._capture.open(self._address)
        if self._ends and not opened:
            raise Fatal(f"{self._address} is no video that OpenCV can read", code="source")
        return opened

    def close(self) -> None:
        self._capture.release()


def _is_picture(name: str) -> bool:
    """A name that is not UTF-8 can be neither a record's id nor a cursor."""
    return name.lower().endswith(_SUFFIXES) and not name.startswith(".") and not any("\ud800" <= char <= "\udfff" for char in name)


def _need_image(spec: ImageInput | VectorInput) -> None:
    if not isinstance(spec, ImageInput):
        raise Fatal("a camera feeds pictures, but the model wants columns: use a csv: source", code="source")
