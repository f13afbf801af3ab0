"""Labelled inputs in memory, as the graph takes them."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np


@dataclass(frozen=True)
class Dataset:
    """`inputs` float32: (rows, channels, height, width) pixel values 0..255, or (rows, columns) in raw units, always finite.
    `labels` int64 (rows,): positions in `classes`. `ids` says where each row came from: a file's name, a CSV row's number."""

    inputs: np.ndarray
    labels: np.ndarray
    classes: tuple[str, ...]
    ids: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.labels)

    @cached_property
    def sha256(self) -> str:
        """Digest of inputs, labels and classes, in order; where they were read from does not count."""
        digest = hashlib.sha256(repr((self.inputs.shape, self.classes)).encode())
        digest.update(np.ascontiguousarray(self.inputs, "<f4"))
        digest.update(np.ascontiguousarray(self.labels, "<i8"))
        return digest.hexdigest()

    def select(self, rows: np.ndarray | Sequence[int]) -> "Dataset":
        """These rows, in this order."""
        at = np.asarray(rows, np.int64)
        return replace(self, inputs=self.inputs[at], labels=self.labels[at], ids=tuple(self.ids[i] for i in at))

    def join(self, other: "Dataset") -> "Dataset":
        """The rows of both; `other` has the same classes and shape."""
        return replace(
            self,
            inputs=np.concatenate([self.inputs, other.inputs]),
            labels=np.concatenate([self.labels, other.labels]),
            ids=self.ids + other.ids,
        )

    def count(self) -> dict[str, int]:
        """Rows of each class."""
        counts = np.bincount(self.labels, minlength=len(self.classes))
        return {name: int(n) for name, n in zip(self.classes, counts, strict=True)}


@dataclass(frozen=True)
class Splits:
    """Disjoint rows. Weights are fitted to `train` alone; `validation` may steer choices; nothing but the final score comes from `test`.
    `columns` names the axis of vectors, empty for images."""

    train: Dataset
    validation: Dataset
    test: Dataset
    columns: tuple[str, ...] = ()

    @property
    def classes(self) -> tuple[str, ...]:
        return self.train.classes

    @property
    def sha256(self) -> str:
        """Digest of all three."""
        return hashlib.sha256("".join(part.sha256 for part in (self.train, self.validation, self.test)).encode()).hexdigest()
