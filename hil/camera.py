"""A camera and a sensor that exist as files: the inputs of a virtual board."""

import os
from collections.abc import Sequence
from pathlib import Path


class VirtualCamera:
    """Writes encoded frames into a folder as a camera would: numbered, each renamed into place, so that a reader never sees half a frame."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.written = 0

    def write(self, jpeg: bytes) -> str:
        """The frame's file name, which the agent reports as its input id."""
        self.written += 1
        name = f"{self.written:06d}.jpg"
        half = self.folder / f".{name}.part"
        half.write_bytes(jpeg)
        half.replace(self.folder / name)
        return name


class VirtualSensor:
    """Appends rows to a CSV file as a data logger would: whole lines, flushed."""

    def __init__(self, file: Path, columns: Sequence[str]) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(",".join(columns) + "\n")
        self.file = file
        self.written = 0

    def write(self, rows: Sequence[Sequence[float | str]]) -> None:
        self.written += len(rows)
        with self.file.open("a") as out:
            out.write("".join(",".join(str(value) for value in row) + "\n" for row in rows))
            out.flush()
            os.fsync(out.fileno())
