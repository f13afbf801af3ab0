"""A folder into which a camera renames whole pictures."""

import os
from collections.abc import Iterator
from pathlib import Path

from edge_agent.errors import Fatal
from edge_agent.ports import Clock, Input
from edge_agent.sources import pictures
from fleet_contract import images, limits
from fleet_contract.inputs import ImageInput, InputSpec

_SUFFIXES = (".jpg", ".jpeg", ".png")


class PictureFolder:
    """Reads files in name order; the cursor and the id are the file's name. A writer must write elsewhere (or under a dotted or other name) and
    rename into place. A name that sorts before one already read is never read. Files are left where they are."""

    def __init__(self, folder: Path, clock: Clock) -> None:
        self._folder = folder
        self._clock = clock

    def read(self, spec: InputSpec, after: str | None) -> Iterator[Input | None]:
        wanted = pictures.need_image(spec, f"the folder {self._folder}")
        last = after or ""
        while True:
            names = self._names_after(last)
            for name in names:
                last = name
                taken = self._take(name, wanted)
                if taken is not None:
                    yield taken
            if not names:
                yield None

    def losses(self) -> dict[str, int]:
        return {}

    def close(self) -> None:
        pass

    def _names_after(self, last: str) -> list[str]:
        try:
            with os.scandir(self._folder) as entries:
                return sorted(e.name for e in entries if e.name > last and _is_picture(e.name))
        except OSError as error:
            raise Fatal(f"the folder {self._folder} cannot be read: {error.strerror}", code="source") from error

    def _take(self, name: str, spec: ImageInput) -> Input | None:
        """None when the file has gone meanwhile."""
        path = self._folder / name
        at = self._clock.now()
        try:
            size = path.stat().st_size
            if size > limits.MAX_IMAGE_BYTES:
                return Input(name, at, name, images.JPEG, b"", None, images.TOO_LARGE)
            return pictures.to_input(path.read_bytes(), spec, name, at, name)
        except FileNotFoundError:
            return None
        except OSError:
            return Input(name, at, name, images.JPEG, b"", None, "unreadable-file")


def _is_picture(name: str) -> bool:
    """A name that is not UTF-8 can be neither a record's id nor a cursor."""
    return name.lower().endswith(_SUFFIXES) and not name.startswith(".") and not any("\ud800" <= char <= "\udfff" for char in name)
