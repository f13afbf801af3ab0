"""The one way in which this program writes a file that somebody else will read."""

import os
from pathlib import Path

from model_tools.errors import Failed


def write_whole(path: Path, data: bytes, mode: int = 0o644) -> None:
    """The file holds all of `data` or what it held before, also after a power cut. Raises Failed."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        try:
            with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise Failed(f"cannot write {path}: {error.strerror}", field=path.name) from error
