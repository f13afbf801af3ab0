"""Labelled pictures: a folder per class, or one folder with a labels CSV (header file,label)."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from fleet_contract import images, limits
from fleet_contract.inputs import ImageInput
from model_tools.data import labels, rows
from model_tools.data.dataset import Dataset
from model_tools.data.times import to_times
from model_tools.errors import BadData
from model_tools.sections import ImageFolder, ImageShape
from model_tools.task import Task

_SUFFIXES = (".jpg", ".jpeg", ".png")
TENSOR = "input"


@dataclass
class _Listing:
    """The files and words of each picture, in order."""

    files: list[str] = field(default_factory=list)
    words: list[str] = field(default_factory=list)
    groups: list[str] = field(default_factory=list)
    times: list[str] = field(default_factory=list)


def read_pictures(task: Task) -> Dataset:
    """Every picture of the task, decoded and resized as on a device, float32 (rows, channels, height, width).

    Raises BadData: no folder, an unreadable picture (named), a label without its file, a missing label, one class only, too few.
    """
    if not isinstance(task.data, ImageFolder) or not isinstance(task.input, ImageShape):
        raise BadData("the task does not read pictures", field="data.reader")
    folder = task.resolve(task.data.folder)
    if not folder.is_dir():
        raise BadData(f"there is no folder {folder}", field="data.folder")
    listing = _list_classes(folder) if task.data.labels is None else _list_labels(task, task.resolve(task.data.labels))
    if len(listing.files) < task.data.min_rows:
        raise BadData(
            f"{len(listing.files)} pictures, at least {task.data.min_rows} are wanted", field="data.folder", limit=task.data.min_rows
        )
    targets, classes = labels.read_targets(task, listing.words, "label")
    pixels = read_files(folder, listing.files, shape_of(task.input))
    return Dataset(
        pixels,
        targets,
        classes,
        tuple(listing.files),
        groups=tuple(listing.groups) or None,
        times=to_times(listing.times, task.split.time or "") if listing.times else None,
    )


def shape_of(shape: ImageShape) -> ImageInput:
    return ImageInput(tensor=TENSOR, height=shape.height, width=shape.width, channels=shape.channels)


def read_files(folder: Path, files: Sequence[str], spec: ImageInput) -> np.ndarray:
    """float32 (files, channels, height, width). Raises BadData naming the first file that is absent, outside `folder` or no picture, and when
    they would not fit into memory together."""
    needed = 4 * len(files) * spec.channels * spec.height * spec.width
    if needed > limits.MAX_PICTURES_BYTES:
        told = f"{len(files)} pictures of {spec.height} x {spec.width} take {needed} bytes of memory: make input.height and input.width smaller"
        raise BadData(told, field="input.height", limit=limits.MAX_PICTURES_BYTES)
    pixels = np.empty((len(files), spec.channels, spec.height, spec.width), np.float32)
    for at, file in enumerate(files):
        path = (folder / file).resolve()
        if not path.is_relative_to(folder.resolve()):
            raise BadData(f"{file!r} leads out of the folder {folder}", field=file)
        try:
            if path.stat().st_size > limits.MAX_IMAGE_BYTES:
                raise BadData(f"{file!r} is too large", field=file, limit=limits.MAX_IMAGE_BYTES)
            pixels[at] = images.decode(path.read_bytes(), spec)
        except OSError as error:
            raise BadData(f"cannot read {file!r}: {error.strerror}", field=file) from error
        except images.Unreadable as error:
            raise BadData(f"{file!r} is no readable picture: {error}", field=file) from error
    return pixels


def _list_classes(folder: Path) -> _Listing:
    listing = _Listing()
    for sub in sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith(".")):
        for path in sorted(p for p in sub.iterdir() if p.suffix.lower() in _SUFFIXES and not p.name.startswith(".")):
            listing.files.append(f"{sub.name}/{path.name}")
            listing.words.append(sub.name)
    return listing


def _list_labels(task: Task, path: Path) -> _Listing:
    listing = _Listing()
    with rows.open_rows(path) as (header, body):
        file, label = (rows.position(header, column, path) for column in ("file", "label"))
        group, time = (None if c is None else rows.position(header, c, path) for c in (task.split.group, task.split.time))
        for row, cells in body:
            if labels.is_missing(cells[label].strip()):
                raise BadData(f"row {row} of {path.name} has no label", field="label", limit=f"row {row}")
            listing.files.append(cells[file].strip())
            listing.words.append(cells[label].strip())
            if group is not None:
                listing.groups.append(cells[group].strip())
            if time is not None:
                listing.times.append(cells[time].strip())
    return listing
