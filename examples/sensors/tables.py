"""scikit-learn's breast-cancer measurements as a fleet of sensors: `python -m examples.sensors.tables FOLDER`.

569 real samples of 30 measurements. A part becomes the training table; the rest is what the devices measure.
"""

import csv
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from sklearn.datasets import load_breast_cancer

LABEL = "diagnosis"
SCALE_ERROR = 1.6
_TRAINING_ROWS = 240


@dataclass(frozen=True)
class Row:
    """One sample: its measurements in raw units, and what it really was."""

    values: tuple[float, ...]
    label: str


@dataclass(frozen=True)
class Tables:
    """`training` and `rest` share no sample."""

    columns: tuple[str, ...]
    training: list[Row]
    rest: list[Row]


def deal(rng: np.random.Generator) -> Tables:
    """Every sample once, in random order."""
    data = load_breast_cancer()
    columns = tuple(str(name).replace(" ", "-") for name in data.feature_names)
    rows = [Row(tuple(map(float, data.data[at])), str(data.target_names[data.target[at]])) for at in rng.permutation(len(data.target))]
    return Tables(columns, rows[:_TRAINING_ROWS], rows[_TRAINING_ROWS:])


def miscalibrate(row: Row, columns: Sequence[str]) -> Row:
    """The same sample through a microscope whose scale is wrong: lengths read 60 % too long, areas by the square of that."""
    return Row(tuple(value * SCALE_ERROR ** _dimension(column) for value, column in zip(row.values, columns, strict=True)), row.label)


def write_training(tables: Tables, file: Path) -> None:
    """Header and rows with the label as the last column."""
    _write(file, [[*tables.columns, LABEL], *([*row.values, row.label] for row in tables.training)])


def _dimension(column: str) -> int:
    kind = column.split("-")[1] if column.startswith(("mean-", "worst-")) else column.split("-")[0]
    return {"radius": 1, "perimeter": 1, "area": 2}.get(kind, 0)


def _write(file: Path, lines: Iterable[Sequence[object]]) -> None:
    with file.open("w", newline="") as out:
        csv.writer(out).writerows(lines)


def main(folder: Path) -> None:
    """Write training.csv, and for two devices rows.csv (healthy) and shifted.csv (miscalibrated), with the truth in columns that no model reads."""
    folder.mkdir(parents=True, exist_ok=True)
    tables = deal(np.random.default_rng(0))
    write_training(tables, folder / "training.csv")
    header = [*tables.columns, LABEL]
    half = len(tables.rest) // 2
    _write(folder / "rows.csv", [header, *([*row.values, row.label] for row in tables.rest[:half])])
    shifted = [miscalibrate(row, tables.columns) for row in tables.rest[half:]]
    _write(folder / "shifted.csv", [header, *([*row.values, row.label] for row in shifted)])


if __name__ == "__main__":
    main(Path(sys.argv[1]))
