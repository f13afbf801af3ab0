"""Answers to a batch, row by row."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fleet_contract.answers.detail import Detail


@dataclass(frozen=True)
class Answers:
    """One element a row. `labels`: the answer, where the output has labels. `values`: the answer's probability; the first target's value; the
    anomaly score; the best box's score, 0 without a box; the mean of a raw output. `margins`: the distance from another answer, in units of
    `values`; 0 where there is no such thing. `abstained`: the model is not sure enough, and the label is the fallback's. `details`: None where
    label and value say all. `features`: float32 (rows, len(features.output_names(output))) of what the model itself said."""

    labels: list[str | None]
    values: list[float]
    margins: list[float]
    abstained: list[bool]
    details: list[Detail | None]
    features: np.ndarray

    @property
    def rows(self) -> int:
        return len(self.labels)
