"""Labelled pictures: a folder per class, or one folder with a labels CSV (header file,label)."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fleet_contract import images, limits
from fleet_contract.inputs import ImageInput
from model_tools.data import labels
from model_tools.data.dataset import Dataset
from model_tools.data.listing import find, list_files
from model_tools.errors import BadData
from model_tools.sections import ImageFolder, ImageShape
from model_tools.task import Task

_SUFFIXES = (".jpg", ".jpeg", ".png")
TENSOR = "input"


def read_pictures(task: Task) -> Dataset:
    """Every picture of the task, decoded and resized as on a device, float32 (rows, channels, height, width).

    Raises BadData: no folder, an unreadable picture (named), a label without its file, a missing label, one class only, too few.
    """
    if not isinstance(task.data, ImageFolder) or not isinstance(task.input, ImageShape):
        raise BadData("the task does not read pictures", field="data.reader")
    listing = list_files(task, _SUFFIXES)
    if len(listing.files) < task.data.min_rows:
        raise BadData(
            f"{len(listing.files)} pictures, at least {task.data.min_rows} are wanted", field="data.folder", limit=task.data.min_rows
        )
    targets, classes = labels.read_targets(task, listing.words, len(listing.words), "label")
    pixels = read_files(listing.folder, listing.files, shape_of(task.input))
    return Dataset(pixels, targets, classes, tuple(listing.files), groups=tuple(listing.groups) or None, times=listing.seconds(task))


def shape_of(shape: ImageShape) -> ImageInput:
    return ImageInput(tensor=TENSOR, height=shape.height, width=shape.width, channels=shape.channels)


def read_files(folder: Path, files: Sequence[str], spec: ImageInput) -> np.ndarray:
    """float32 (files, channels, height, width). Raises BadData naming the first file that is absent, outside `folder` or no picture, and when
    they would not fit into memory together."""
    needed = 4 * len(files) * spec.channels * spec.height * spec.width
    if needed > limits.MAX_DATASET_BYTES:
        told = f"{len(files)} pictures of {spec.height} x {spec.width} take {needed} bytes of memory: make input.height and input.width smaller"
        raise BadData(told, field="input.height", limit=limits.MAX_DATASET_BYTES)
    pixels = np.empty((len(files), spec.channels, spec.height, spec.width), np.float32)
    for at, file in enumerate(files):
        try:
            pixels[at] = images.decode(find(folder, file, limits.MAX_IMAGE_BYTES).read_bytes(), spec)
        except OSError as error:
            raise BadData(f"cannot read {file!r}: {error.strerror}", field=file) from error
        except images.Unreadable as error:
            raise BadData(f"{file!r} is no readable picture: {error}", field=file) from error
    return pixels
