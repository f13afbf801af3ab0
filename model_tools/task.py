"""The task file: everything the workbench knows of a task, so that a new one needs no code. docs/task-files.md describes every key; the
structs are in model_tools/sections.py, policy and limits in fleet_contract/bundle.py.
"""

import operator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from firmware_profiles import catalog as firmware_profiles
from fleet_contract import limits, names
from fleet_contract.errors import ContractError
from fleet_contract.manifest import Limits, Policy
from model_tools.errors import BadTask
from model_tools.sections import (
    Answer,
    CsvFile,
    Gates,
    ImageFolder,
    ImageShape,
    Quantization,
    Recipe,
    Retraining,
    Split,
    TaskFile,
    Training,
    VectorShape,
)
from model_tools.toml_file import read_toml


@dataclass(frozen=True)
class Task:
    """A checked task file. `sha256` is that of its bytes; `folder` is where its relative paths begin."""

    folder: Path
    sha256: str
    name: str
    description: str
    profiles: list[str]
    input: ImageShape | VectorShape
    output: Answer
    data: ImageFolder | CsvFile
    split: Split
    train: Training
    retrain: Retraining
    quantize: Quantization
    gates: Gates
    policy: Policy
    limits: Limits

    @property
    def recipe(self) -> Recipe:
        return self.train.recipe or ("image-cnn" if isinstance(self.input, ImageShape) else "vector-mlp")

    def resolve(self, path: str) -> Path:
        """A path of the task file, absolute."""
        return (self.folder / path).resolve()


def load_task(path: Path) -> Task:
    """Read and check a task file. Raises BadTask naming the key (as `section.key`) and what is allowed."""
    file, sha256 = read_toml(path, TaskFile)
    _check(file)
    head = file.task
    sections = {f: getattr(file, f) for f in TaskFile.__struct_fields__ if f != "task"}
    return Task(path.resolve().parent, sha256, head.name, head.description, head.profiles, **sections)


def _check(file: TaskFile) -> None:
    """What one key alone cannot show, and the bounds of the contract's own structs."""
    check_name(file.task.name, "task.name")
    check_profiles(file.task.profiles, "task.profiles")
    _check_kinds(file)
    check_bounds(file)
    _check_ranges(file.input)
    _check_distinct(file.output.classes, "output.classes", limits.MAX_CLASSES)
    if file.split.group and file.split.time:
        raise BadTask("split by group or by time, not both", field="split.group")
    if len(file.output.classes) == 1:
        raise BadTask("a classification needs at least two classes", field="output.classes", limit=2)


def check_name(name: str, field: str) -> None:
    """Raises BadTask."""
    try:
        names.name(name, field)
    except ContractError as error:
        raise BadTask(str(error), field=field, limit=error.limit) from error


def check_profiles(profiles: list[str], field: str) -> None:
    """Raises BadTask naming those that there are."""
    known = ["any", *firmware_profiles.names()]
    if unknown := [profile for profile in profiles if profile not in known]:
        raise BadTask(f"unknown hardware profile {unknown[0]!r}; known: {', '.join(known)}", field=field, limit=", ".join(known))


def _check_kinds(file: TaskFile) -> None:
    image = isinstance(file.input, ImageShape)
    if image != isinstance(file.data, ImageFolder):
        raise BadTask(f"input.kind {'image' if image else 'vector'!r} does not go with this data.reader", field="data.reader")
    if file.train.recipe not in (None, "image-cnn" if image else "vector-mlp"):
        raise BadTask(f"recipe {file.train.recipe!r} does not take this input.kind", field="train.recipe")
    if image and file.data.labels is None and (file.split.group or file.split.time):
        raise BadTask("splitting pictures by group or time needs data.labels with that column", field="data.labels")


_BOUNDS = {
    "policy.drift.window_inputs": (1, 1_000_000),
    "policy.drift.false_alarms": (1e-12, 1),
    "policy.drift.min_effect": (0, 1),
    "policy.drift.windows": (1, 1_000),
    "policy.sampling.max_items": (1, 1_000_000),
    "policy.sampling.max_bytes": (1, limits.MAX_BUNDLE_BYTES),
    "policy.retrain.min_labels": (1, 1_000_000),
    "policy.rollout.canaries": (1, 1_000_000),
    "policy.rollout.gate_inputs": (0, 1_000_000),
    "policy.rollout.gate_refused_share": (0, 1),
    "limits.memory_mb": (1, 1_000_000),
    "limits.latency_ms": (1e-3, 1_000 * limits.MAX_LATENCY_S),
}


class Bounded(Protocol):
    @property
    def policy(self) -> Policy: ...

    @property
    def limits(self) -> Limits: ...


def check_bounds(file: Bounded) -> None:
    """Of a file's policy and limits. Raises BadTask."""
    for field, (least, most) in _BOUNDS.items():
        value = operator.attrgetter(field)(file)
        if not least <= value <= most:
            raise BadTask(f"{field} is {value}, not between {least} and {most}", field=field, limit=least if value < least else most)


def _check_ranges(shape: ImageShape | VectorShape) -> None:
    if isinstance(shape, ImageShape):
        return
    _check_distinct(shape.columns, "input.columns", limits.MAX_CSV_COLUMNS)
    if shape.columns and shape.ignore:
        raise BadTask("input.columns already leaves out what it does not name: drop input.ignore", field="input.ignore")
    for column, (low, high) in shape.ranges.items():
        if shape.columns and column not in shape.columns:
            raise BadTask(f"input.ranges names {column!r}, which input.columns does not", field=f"input.ranges.{column}")
        if not low < high:
            raise BadTask(f"the range of {column!r} needs low < high", field=f"input.ranges.{column}")


def _check_distinct(values: list[str], field: str, most: int) -> None:
    if len(values) > most:
        raise BadTask(f"{field} has {len(values)} entries, at most {most}", field=field, limit=most)
    if repeated := next((v for v in values if values.count(v) > 1), None):
        raise BadTask(f"{field} names {repeated!r} twice", field=field)
