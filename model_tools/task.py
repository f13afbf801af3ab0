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
    Check,
    DataFile,
    Gates,
    ImageFolder,
    ImageShape,
    InputShape,
    Quantization,
    Recipe,
    Retraining,
    Search,
    Split,
    TaskFile,
    TaskKind,
    Training,
    WavFolder,
    WindowShape,
)
from model_tools.toml_file import read_toml


@dataclass(frozen=True)
class Task:
    """A checked task file. `sha256` is that of its bytes; `folder` is where its relative paths begin."""

    folder: Path
    sha256: str
    name: str
    kind: TaskKind
    description: str
    profiles: list[str]
    input: InputShape
    output: Answer
    data: DataFile
    split: Split
    check: Check
    train: Training
    search: Search
    retrain: Retraining
    quantize: Quantization
    gates: Gates
    policy: Policy
    limits: Limits

    @property
    def recipe(self) -> Recipe:
        """The one asked for, or the usual one of the kinds of task and input."""
        if self.train.recipe is not None:
            return self.train.recipe
        return "module" if self.train.module is not None else recipes_for(self.kind, self.input)[0]

    @property
    def target(self) -> str:
        """What is learnt, in words: the target's column, or how a folder tells it."""
        return getattr(self.data, "target", None) or "label"

    def resolve(self, path: str) -> Path:
        """A path of the task file, absolute."""
        return (self.folder / path).resolve()


def load_task(path: Path) -> Task:
    """Read and check a task file. Raises BadTask naming the key (as `section.key`) and what is allowed."""
    file, sha256 = read_toml(path, TaskFile)
    _check(file)
    head = file.task
    sections = {f: getattr(file, f) for f in TaskFile.__struct_fields__ if f != "task"}
    return Task(path.resolve().parent, sha256, head.name, head.kind, head.description, head.profiles, **sections)


def _check(file: TaskFile) -> None:
    """What one key alone cannot show, and the bounds of the contract's own structs."""
    check_name(file.task.name, "task.name")
    check_profiles(file.task.profiles, "task.profiles")
    _check_kinds(file)
    check_bounds(file)
    _check_ranges(file.input)
    _check_distinct(file.output.classes, "output.classes", limits.MAX_CLASSES)
    if file.split.group and file.split.time and file.split.by is None:
        raise BadTask("split by group or by time, not both: say which in split.by", field="split.group")
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


def recipes_for(kind: TaskKind, shape: InputShape) -> tuple[Recipe, ...]:
    """Those that fit, the usual one first."""
    if isinstance(shape, ImageShape):
        return () if kind == "anomaly" else ("image-cnn", "image-mobile", "module")
    if kind == "anomaly":
        return ("autoencoder", "module")
    return ("window-cnn" if isinstance(shape, WindowShape) else "vector-mlp", "module")


def _check_kinds(file: TaskFile) -> None:
    kind, shape, data = file.task.kind, file.input, file.data
    if isinstance(shape, ImageShape) != isinstance(data, ImageFolder) or (
        isinstance(data, WavFolder) and not isinstance(shape, WindowShape)
    ):
        told = type(shape).__struct_config__.tag
        raise BadTask(f"input.kind {told!r} does not go with this data.reader", field="data.reader")
    fitting = recipes_for(kind, shape)
    if not fitting:
        raise BadTask(f"there is no recipe for {kind} of such an input", field="task.kind")
    if file.train.recipe not in (None, *fitting):
        told = f"recipe {file.train.recipe!r} does not take this input.kind for {kind}; {', '.join(fitting)} do"
        raise BadTask(told, field="train.recipe", limit=", ".join(fitting))
    if (file.train.recipe == "module") > (file.train.module is not None):
        raise BadTask('recipe "module" needs train.module = "PACKAGE.MODULE:CALLABLE"', field="train.module")
    if isinstance(data, ImageFolder | WavFolder) and data.labels is None and (file.split.group or file.split.time):
        raise BadTask("splitting files by group or time needs data.labels with that column", field="data.labels")
    _check_target(file)


def _check_target(file: TaskFile) -> None:
    kind, data = file.task.kind, file.data
    if isinstance(data, ImageFolder | WavFolder):
        if kind == "regression" and data.labels is None:
            raise BadTask("a regression needs data.labels with a number for each file", field="data.labels")
    elif data.target is None and kind != "anomaly":
        raise BadTask(f"a {kind} needs data.target, the column that is to be learnt", field="data.target")
    if kind != "classification" and file.output.classes:
        raise BadTask(f"a {kind} has no output.classes", field="output.classes")
    if kind == "regression" and isinstance(file.input, WindowShape) and file.input.label != "last":
        raise BadTask("the target of a regression's window is that of its last sample", field="input.label", limit="last")


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


def _check_ranges(shape: InputShape) -> None:
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
