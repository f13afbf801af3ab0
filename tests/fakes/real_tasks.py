"""Task files of real data that nobody tuned for, written into a folder: scikit-learn's own sets, and those of the corpus (tests.fakes.corpus).

Each function gives the task file's path. `more` is appended to the file: further sections. Those of the corpus need `missing()` to be None.
"""

import csv
import json
from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path

import numpy as np

from tests.fakes import corpus

SENSORS = [f"s{number}" for number in range(1, 22)]
_LIFE_CYCLES = 125
"""What is left of a turbofan's life counts up to here: before, nothing can be seen of its end (Heimes, PHM 2008)."""
_WEATHER = ["temperature", "dew-point", "pressure", "visibility", "wind", "wind-max", "high", "low"]


def missing() -> str | None:
    """Why there are no real streams here."""
    folder = corpus.folder()
    return None if (folder / "weather_noaa").is_dir() else f"no corpus of data in {folder} (EDGEFLEET_CORPUS)"


def iris(folder: Path, more: str = "") -> Path:
    """Three classes of 50 flowers, 4 columns."""
    return _table(folder, "iris", "species", more)


def wine(folder: Path, more: str = "") -> Path:
    """Three classes in 178 rows, 13 columns of very different units."""
    return _table(folder, "wine", "cultivar", more)


def breast_cancer(folder: Path, more: str = "") -> Path:
    """Two classes in 569 rows, 30 columns."""
    return _table(folder, "breast_cancer", "finding", more)


def breast_cancer_anomalies(folder: Path, more: str = "") -> Path:
    """The same rows: benign ones are normal, malignant ones are to be found."""
    return _table(folder, "breast_cancer", "finding", f'[output]\nnormal = ["benign"]\n{more}', kind="anomaly")


def digits(folder: Path, more: str = "") -> Path:
    """Ten classes in 1797 rows of 64 columns."""
    return _table(folder, "digits", "digit", more)


def diabetes(folder: Path, more: str = "") -> Path:
    """A regression of 442 rows, 10 columns (R² of a linear model: 0.48)."""
    return _table(folder, "diabetes", "progression", more, kind="regression")


def digit_pictures(folder: Path, more: str = "", rows: int | None = None) -> Path:
    """The digits as a folder of 8 x 8 grey PNG files a class."""
    import cv2
    from sklearn.datasets import load_digits

    pictures, labels = load_digits(return_X_y=True)
    for at, (pixels, label) in enumerate(zip(pictures[:rows], labels[:rows], strict=True)):
        place = folder / "digits" / str(label)
        place.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(place / f"{at:04}.png"), np.minimum(pixels.reshape(8, 8) * 16, 255).astype(np.uint8))
    shape = '[input]\nkind = "image"\nheight = 8\nwidth = 8\nchannels = 1\n'
    return _write(folder, "digit-pictures", "classification", shape + '[data]\nreader = "images"\nfolder = "digits"\n' + more)


def gaits(folder: Path, more: str = "", machines: int = 12, samples: int = 400, seed: int = 0, kind: str = "classification") -> Path:
    """Made up: two sensors of a dozen machines, each of which idles, runs and shakes in turn; windows of 32, whole machines in each part.
    A regression (`kind`) of the shaking's strength instead, or anomalies, which are the shaking."""
    rng = np.random.default_rng(seed)
    rows: list[Sequence[object]] = []
    for machine in range(machines):
        for at in range(samples):
            state = (at // 100 + machine) % 3
            strength = (0.0, 0.5, 1.5)[state] * (1 + 0.5 * np.sin(machine))
            swing = strength * np.sin(at * (0.0, 0.3, 1.1)[state] + machine)
            told = {"regression": f"{strength:.4f}", "anomaly": ("normal", "normal", "shaking")[state]}
            word = told.get(kind, ("idle", "running", "shaking")[state])
            rows.append((f"m{machine:02}", f"{swing + rng.normal(0, 0.1):.5f}", f"{20 + strength + rng.normal(0, 0.2):.4f}", word))
    _write_rows(folder / "gaits.csv", ["machine", "swing", "warmth", "state"], rows)
    label = "last" if kind == "regression" else "most"
    shape = f'[input]\nkind = "window"\nlength = 32\nstride = 8\nlabel = "{label}"\n'
    data = '[data]\nreader = "csv"\nfile = "gaits.csv"\ntarget = "state"\n[split]\ngroup = "machine"\n'
    return _write(folder, "gaits", kind, shape + data + more)


def cmapss(folder: Path, more: str = "", engines: int = 100, stride: int = 5) -> Path:
    """NASA's turbofans (FD001): how many cycles are left, of windows of 30 cycles; whole engines in each part. The file has no header; the target is
    counted from each engine's last cycle."""
    table = np.loadtxt(corpus.folder() / "cmapss_fd001" / "train_FD001.txt")
    table = table[table[:, 0] <= engines]
    last = {unit: table[table[:, 0] == unit, 1].max() for unit in np.unique(table[:, 0])}
    rows = [
        (int(row[0]), int(row[1]), *(f"{value:g}" for value in row[2:]), int(min(_LIFE_CYCLES, last[row[0]] - row[1]))) for row in table
    ]
    header = ["unit", "cycle", "setting1", "setting2", "setting3", *SENSORS, "left"]
    _write_rows(folder / "engines.csv", header, rows)
    shape = f'[input]\nkind = "window"\nlength = 30\nstride = {stride}\nignore = ["cycle"]\n'
    data = '[data]\nreader = "csv"\nfile = "engines.csv"\ntarget = "left"\n[split]\ngroup = "unit"\n[output]\nunit = "cycles"\n'
    return _write(folder, "turbofan-life", "regression", shape + data + more)


def nab(folder: Path, more: str = "", stream: str = "machine_temperature_system_failure", length: int = 24, stride: int = 12) -> Path:
    """A stream of the Numenta Anomaly Benchmark: anomalies are the samples inside its labelled windows. Its `timestamp` column says
    when, so it is split by time."""
    source = corpus.folder() / "nab"
    spans = json.loads((source / "combined_windows.json").read_text())[f"realKnownCause/{stream}.csv"]
    odd = [tuple(datetime.fromisoformat(end) for end in span) for span in spans]
    with (source / f"{stream}.csv").open(newline="") as file:
        found = [(row["timestamp"], row["value"]) for row in csv.DictReader(file)]
    rows = [
        (at, value, "anomaly" if any(start <= datetime.fromisoformat(at) <= end for start, end in odd) else "normal") for at, value in found
    ]
    _write_rows(folder / "stream.csv", ["timestamp", "value", "state"], rows)
    shape = f'[input]\nkind = "window"\nlength = {length}\nstride = {stride}\nlabel = "any"\n'
    data = '[data]\nreader = "csv"\nfile = "stream.csv"\ntarget = "state"\n[split]\ntest = 0.5\n'
    return _write(folder, "stream-anomaly", "anomaly", shape + data + more)


def weather(folder: Path, more: str = "", by: str = "order") -> Path:
    """Rain of the day from 8 columns, 18,159 days in their order (NOAA, Offutt AFB); the labels are a file of their own, read where the corpus lies."""
    source = corpus.folder() / "weather_noaa"
    data = (
        f'[input]\nkind = "vector"\n[data]\nreader = "csv"\nfile = "{source / "NEweather_data.csv"}"\n'
        f'labels = "{source / "NEweather_class.csv"}"\ntarget = "rain"\nheader = {json.dumps(_WEATHER)}\n[split]\nby = "{by}"\n'
    )
    return _write(folder, "rain", "classification", data + more)


def _table(folder: Path, name: str, target: str, more: str, kind: str = "classification") -> Path:
    from sklearn import datasets

    known = getattr(datasets, f"load_{name}")()
    names = [str(column).replace(" (cm)", "").replace("/", " per ") for column in known.feature_names]
    words = known.target if kind == "regression" else [str(known.target_names[label]) for label in known.target]
    rows = [(*(f"{value:.9g}" for value in row), word) for row, word in zip(known.data, words, strict=True)]
    _write_rows(folder / f"{name}.csv", [*names, target], rows)
    data = f'[input]\nkind = "vector"\n[data]\nreader = "csv"\nfile = "{name}.csv"\ntarget = "{target}"\n'
    return _write(folder, name.replace("_", "-"), kind, data + more)


def _write_rows(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    with path.open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([header, *rows])


def _write(folder: Path, name: str, kind: str, body: str) -> Path:
    path = folder / "task.toml"
    path.write_text(f'[task]\nname = "{name}"\nkind = "{kind}"\n{body}')
    return path
