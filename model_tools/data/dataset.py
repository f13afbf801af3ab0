"""Labelled inputs in memory, as the graph takes them."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from model_tools.sections import SplitBy


@dataclass(frozen=True)
class Dataset:
    """`inputs` float32: (rows, channels, height, width) pixel values 0..255, (rows, columns) in raw units, or windows (rows, length, columns) in raw
    units, always finite. `labels` int64 (rows,): positions in `classes`, which are NORMAL and ANOMALY where anomalies are sought; of a regression, which
    has no classes, float32 (rows,) in the target's unit. `ids` says where each row came from: a file's name, a CSV row's number. `columns`
    names the last axis of vectors and windows. `groups` (a machine, a patient) and `times` (seconds, or any number that grows with time) are
    known where the task names them or the data shows them. `notes` say what reading decided by itself."""

    inputs: np.ndarray
    labels: np.ndarray
    classes: tuple[str, ...]
    ids: tuple[str, ...]
    columns: tuple[str, ...] = ()
    groups: tuple[str, ...] | None = None
    times: np.ndarray | None = None
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.labels)

    @cached_property
    def sha256(self) -> str:
        """Digest of inputs, labels and classes, in order; where they were read from does not count."""
        digest = hashlib.sha256(repr((self.inputs.shape, self.classes)).encode())
        digest.update(np.ascontiguousarray(self.inputs, "<f4"))
        digest.update(np.ascontiguousarray(self.labels, "<i8" if self.classes else "<f4"))
        return digest.hexdigest()

    def select(self, rows: np.ndarray | Sequence[int]) -> "Dataset":
        """These rows, in this order."""
        at = np.asarray(rows, np.int64)
        return replace(
            self,
            inputs=self.inputs[at],
            labels=self.labels[at],
            ids=tuple(self.ids[i] for i in at),
            groups=None if self.groups is None else tuple(self.groups[i] for i in at),
            times=None if self.times is None else self.times[at],
        )

    def join(self, other: "Dataset") -> "Dataset":
        """The rows of both; `other` has the same classes and shape. Groups and times are known where both know them."""
        return replace(
            self,
            inputs=np.concatenate([self.inputs, other.inputs]),
            labels=np.concatenate([self.labels, other.labels]),
            ids=self.ids + other.ids,
            groups=None if self.groups is None or other.groups is None else self.groups + other.groups,
            times=None if self.times is None or other.times is None else np.concatenate([self.times, other.times]),
        )

    def count(self) -> dict[str, int]:
        """Rows of each class; none of a regression."""
        if not self.classes:
            return {}
        counts = np.bincount(self.labels, minlength=len(self.classes))
        return {name: int(n) for name, n in zip(self.classes, counts, strict=True)}


@dataclass(frozen=True)
class Splits:
    """Disjoint rows. Weights are fitted to `train` alone; `validation` may steer choices; nothing but the final score comes from `test`.
    `by` says how they were split."""

    train: Dataset
    validation: Dataset
    test: Dataset
    by: SplitBy = "shares"

    @property
    def classes(self) -> tuple[str, ...]:
        return self.train.classes

    @property
    def columns(self) -> tuple[str, ...]:
        return self.train.columns

    @property
    def notes(self) -> tuple[str, ...]:
        return self.train.notes

    @property
    def parts(self) -> tuple[Dataset, Dataset, Dataset]:
        return self.train, self.validation, self.test

    @property
    def sha256(self) -> str:
        """Digest of all three."""
        return hashlib.sha256("".join(part.sha256 for part in self.parts).encode()).hexdigest()
