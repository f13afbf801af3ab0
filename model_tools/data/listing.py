"""Which files of a folder are what: a folder per class, or a labels CSV (header file,label)."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from fleet_contract.outputs import NORMAL
from model_tools.data import labels
from model_tools.data.rows import open_rows
from model_tools.data.table import position
from model_tools.data.times import to_times
from model_tools.errors import BadData
from model_tools.sections import ImageFolder, WavFolder
from model_tools.task import Task


@dataclass
class Listing:
    """The files and words of each, in order; groups and times where the labels file has the columns that the task names."""

    folder: Path
    files: list[str] = field(default_factory=list)
    words: list[str] = field(default_factory=list)
    groups: list[str] = field(default_factory=list)
    times: list[str] = field(default_factory=list)

    def seconds(self, task: Task) -> np.ndarray | None:
        """Raises BadData for a word that is no time."""
        return to_times(self.times, task.split.time or "") if self.times else None


def list_files(task: Task, suffixes: Sequence[str]) -> Listing:
    """Raises BadData: no folder, no such file in it, a labels file without these columns or with a missing label."""
    source: ImageFolder | WavFolder = task.data
    folder = task.resolve(source.folder)
    if not folder.is_dir():
        raise BadData(f"there is no folder {folder}", field="data.folder")
    if source.labels is not None:
        return _list_labels(task, folder, task.resolve(source.labels))
    listing = _list_classes(folder, suffixes)
    if not listing.files and task.kind == "anomaly":
        listing.files = [path.name for path in _with(folder, suffixes)]
        listing.words = [(task.output.normal or [NORMAL])[0]] * len(listing.files)
    if not listing.files:
        raise BadData(f"{folder} has no {' or '.join(suffixes)} file in a folder per class", field="data.folder", limit=1)
    return listing


def find(folder: Path, file: str, max_bytes: int) -> Path:
    """Raises BadData for a file that is absent, outside `folder`, or too large."""
    path = (folder / file).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise BadData(f"{file!r} leads out of the folder {folder}", field=file)
    try:
        size = path.stat().st_size
    except OSError as error:
        raise BadData(f"cannot read {file!r}: {error.strerror}", field=file) from error
    if size > max_bytes:
        raise BadData(f"{file!r} is too large", field=file, limit=max_bytes)
    return path


def _with(folder: Path, suffixes: Sequence[str]) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in suffixes and not path.name.startswith("."))


def _list_classes(folder: Path, suffixes: Sequence[str]) -> Listing:
    listing = Listing(folder)
    for sub in sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")):
        for path in _with(sub, suffixes):
            listing.files.append(f"{sub.name}/{path.name}")
            listing.words.append(sub.name)
    return listing


def _list_labels(task: Task, folder: Path, path: Path) -> Listing:
    listing, seen = Listing(folder), set()
    with open_rows(path) as (header, body):
        file, label = (position(header, column, path.name) for column in ("file", "label"))
        group, time = (None if c is None else position(header, c, path.name) for c in (task.split.group, task.split.time))
        for row, cells in body:
            if labels.is_missing(cells[label].strip()):
                raise BadData(f"row {row} of {path.name} has no label", field="label", limit=f"row {row}")
            listing.files.append(cells[file].strip())
            listing.words.append(cells[label].strip())
            if group is not None:
                listing.groups.append(cells[group].strip())
            if time is not None:
                listing.times.append(cells[time].strip())
            if listing.files[-1] in seen:
                raise BadData(f"row {row} of {path.name} names {listing.files[-1]!r} again", field="file", limit=f"row {row}")
            seen.add(listing.files[-1])
    return listing
