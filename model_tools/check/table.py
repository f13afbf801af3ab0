"""All rows of a data set beside each other, in the order in which they were measured."""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from model_tools.check.likeness import make_thumbs
from model_tools.data.dataset import Dataset, Splits
from model_tools.sections import SplitBy

TRAIN, VALIDATION, TEST = range(3)
_SPARE_BITS = 8.0
_MAX_LOOKED_AT = 256
_FIFTHS = (0.2, 0.4, 0.6, 0.8)


@dataclass(frozen=True)
class Table:
    """Rows by group, in it by time, and else by the order of the file.

    `inputs` are float32 of each part, not copied: vectors (rows, columns), windows (rows, length, columns), thumbnails of pictures (rows, values).
    `place` says where in its `part` (TRAIN, VALIDATION or TEST) a row stands. `digests` uint64 are equal for equal inputs. `labels` are as in
    Dataset, `strata` int64 the classes, or fifths of what a regression estimates. `groups` int64 numbers them; with one where none is known. `light` float32
    (rows, 2) are brightness and contrast of pictures.
    """

    inputs: tuple[np.ndarray, ...]
    place: np.ndarray
    digests: np.ndarray
    labels: np.ndarray
    strata: np.ndarray
    part: np.ndarray
    groups: np.ndarray
    ids: np.ndarray
    times: np.ndarray | None
    classes: tuple[str, ...]
    columns: tuple[str, ...]
    by: SplitBy
    light: np.ndarray | None = None
    pictures: bool = False
    grouped: bool = False

    def __len__(self) -> int:
        return len(self.part)

    @property
    def length(self) -> int:
        """Samples of an input."""
        return self.inputs[0].shape[1] if self.has_windows else 1

    @property
    def has_windows(self) -> bool:
        return self.inputs[0].ndim == 3

    def take(self, rows: np.ndarray, most: int | None = None) -> np.ndarray:
        """These rows' inputs; of a window every so manieth sample, that they are no more than `most`."""
        step = 1 if most is None else -(-self.length // most)
        parts = [part[:, ::step] if self.has_windows else part for part in self.inputs]
        taken = np.empty((len(rows), *parts[0].shape[1:]), np.float32)
        for number, part in enumerate(parts):
            chosen = self.part[rows] == number
            taken[chosen] = part[self.place[rows[chosen]]]
        return taken

    def values(self, at: int) -> np.ndarray:
        """One value of every row."""
        return np.concatenate([part.reshape(len(part), -1)[:, at] for part in self.inputs])[self.order]

    @cached_property
    def order(self) -> np.ndarray:
        """Rows among those of all parts, one after the other."""
        starts = np.cumsum([0, *map(len, self.inputs)])[:-1]
        return starts[self.part] + self.place

    def rows(self, part: int) -> np.ndarray:
        return np.flatnonzero(self.part == part)

    @cached_property
    def learnt(self) -> np.ndarray:
        """bool (rows,): is in training."""
        return self.part == TRAIN

    @cached_property
    def is_rich(self) -> bool:
        """Whether rows are hardly ever equal by chance: the columns have more combinations than there are pairs of rows (by their collision
        entropy, as if they were independent)."""
        bits, wanted = 0.0, 2 * np.log2(len(self)) + _SPARE_BITS
        count = int(np.prod(self.inputs[0].shape[1:]))
        for at in range(0, count, -(-count // _MAX_LOOKED_AT)):
            shares = np.unique(self.values(at), return_counts=True)[1] / len(self)
            bits -= float(np.log2(np.square(shares).sum()))
            if bits > wanted:
                return True
        return False

    @cached_property
    def follows(self) -> np.ndarray:
        """Rows whose next one is of the same group."""
        return np.flatnonzero(self.groups[:-1] == self.groups[1:])


def lay_out(splits: Splits) -> Table:
    """All parts, in the order of the file again as far as ids, groups and times tell it."""
    parts = splits.parts
    pictures = parts[0].inputs.ndim == 4
    labels = np.concatenate([part.labels for part in parts])
    ids = [name for part in parts for name in part.ids]
    times = None if any(part.times is None for part in parts) else np.concatenate([np.asarray(part.times) for part in parts])
    grouped = all(part.groups is not None for part in parts)
    groups = _number([name for part in parts for name in part.groups or ()]) if grouped else np.zeros(len(ids), np.int64)
    order = np.lexsort((_place(ids), np.zeros(len(ids)) if times is None else times, groups))
    return Table(
        inputs=tuple(make_thumbs(part.inputs) if pictures else part.inputs for part in parts),
        place=np.concatenate([np.arange(len(part)) for part in parts])[order],
        digests=np.concatenate([_digest(part) for part in parts])[order],
        labels=labels[order],
        strata=(labels if splits.classes else np.searchsorted(np.quantile(labels, _FIFTHS), labels))[order],
        part=np.repeat(np.arange(3), [len(part) for part in parts])[order],
        groups=groups[order],
        ids=np.array(ids, object)[order],
        times=None if times is None else times[order],
        classes=splits.classes,
        columns=splits.columns,
        by=splits.by,
        light=np.concatenate([_light(part.inputs) for part in parts])[order] if pictures else None,
        pictures=pictures,
        grouped=grouped,
    )


def _place(ids: Sequence[str]) -> np.ndarray:
    """Where each row stands in the file, or its file among files: numbers in names count as such."""
    keys = [[int(word) if word.isdecimal() else word for word in re.split(r"(\d+)", name)] for name in ids]
    place = np.empty(len(ids), np.int64)
    place[sorted(range(len(ids)), key=keys.__getitem__)] = np.arange(len(ids))
    return place


def _light(pixels: np.ndarray) -> np.ndarray:
    flat = pixels.reshape(len(pixels), -1)
    return np.stack([flat.mean(axis=1), flat.std(axis=1)], axis=1)


def _number(names: Sequence[str]) -> np.ndarray:
    return np.unique(np.array(names), return_inverse=True)[1].astype(np.int64)


def _digest(rows: Dataset) -> np.ndarray:
    flat = np.ascontiguousarray(rows.inputs, np.float32).reshape(len(rows), -1)
    return np.array([int.from_bytes(hashlib.blake2b(row + 0.0, digest_size=8).digest()) for row in flat], np.uint64)
