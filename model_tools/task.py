"""The task file: everything the workbench knows of a task, so that a new one needs no code. docs/task-files.md describes every key; the
structs are in model_tools/sections.py, policy and limits in fleet_contract/bundle.py.
"""

import hashlib
import math
import operator
import re
import tomllib
import types
import typing
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec

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
    data = _read(path)
    try:
        table = tomllib.loads(data.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadTask(f"{path.name} is not TOML: {error}", field=path.name) from error
    _check_keys(table, TaskFile, "")
    try:
        file = msgspec.convert(table, TaskFile)
    except msgspec.ValidationError as error:
        raise _as_bad_task(str(error)) from error
    except ContractError as error:
        raise BadTask(str(error), field=error.field, limit=error.limit) from error
    _check(file)
    head = file.task
    sections = {f: getattr(file, f) for f in TaskFile.__struct_fields__ if f != "task"}
    return Task(path.resolve().parent, hashlib.sha256(data).hexdigest(), head.name, head.description, head.profiles, **sections)


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(limits.MAX_TASK_FILE_BYTES + 1)
    except OSError as error:
        raise BadTask(f"cannot read the task file {path}: {error.strerror}", field=path.name) from error
    if len(data) > limits.MAX_TASK_FILE_BYTES:
        raise BadTask(f"{path.name} is too large", field=path.name, limit=limits.MAX_TASK_FILE_BYTES)
    return data


def _check_keys(table: object, kind: object, where: str) -> None:
    """What msgspec's messages leave out: which keys and words are allowed. And its bounds let NaN pass."""
    struct = _struct_of(table, kind, where)
    if struct is None or not isinstance(table, dict):
        return
    fields = {f.encode_name: f.type for f in msgspec.structs.fields(struct)}
    tag = struct.__struct_config__.tag_field if struct.__struct_config__.tag is not None else None
    allowed = [*([tag] if tag else []), *fields]
    for key, value in table.items():
        field = where + key
        if key not in allowed:
            raise BadTask(f"unknown key {field!r}; allowed here: {', '.join(allowed)}", field=field, limit=", ".join(allowed))
        if any(isinstance(number, float) and not math.isfinite(number) for number in (value if isinstance(value, list) else [value])):
            raise BadTask(f"{field} must be finite", field=field)
        if key != tag:
            _check_word(value, fields[key], field)
            _check_keys(value, fields[key], f"{field}.")


def _check_word(value: object, kind: object, field: str) -> None:
    options = [word for part in _options(kind) if typing.get_origin(part) is Literal for word in typing.get_args(part)]
    if options and value not in options:
        known = ", ".join(map(str, options))
        raise BadTask(f"{field} is {value!r}; allowed: {known}", field=field, limit=known)


def _struct_of(table: object, kind: object, where: str) -> type[msgspec.Struct] | None:
    """The struct that a table of this declared type is to become; of a tagged union the one that its tag names."""
    structs = [option for option in _options(kind) if isinstance(option, type) and issubclass(option, msgspec.Struct)]
    if len(structs) < 2 or not isinstance(table, dict):
        return structs[0] if structs else None
    field = structs[0].__struct_config__.tag_field
    by_tag = {s.__struct_config__.tag: s for s in structs}
    if field in table and table[field] not in by_tag:
        known = ", ".join(by_tag)
        raise BadTask(f"{where}{field} is {table[field]!r}; allowed: {known}", field=where + field, limit=known)
    return by_tag.get(table.get(field))


def _options(kind: object) -> tuple[object, ...]:
    return typing.get_args(kind) if isinstance(kind, types.UnionType) or typing.get_origin(kind) is typing.Union else (kind,)


_AT = re.compile(r"^(?P<what>.*?)(?: - at `\$\.?(?P<where>.*)`)?$", re.DOTALL)
_MISSING = re.compile(r"missing required field `(\w+)`")
_BOUND = re.compile(r"(?:>=|<=|>|<) (-?[\d.e+]+)")


def _as_bad_task(message: str) -> BadTask:
    found = _AT.match(message)
    what, where = found["what"], found["where"] or ""
    if missing := _MISSING.search(what):
        where = f"{where}.{missing[1]}".lstrip(".")
        return BadTask(f"the task file lacks {where!r}", field=where)
    bound = _BOUND.search(what)
    return BadTask(f"{where or 'task file'}: {what}", field=where or None, limit=float(bound[1]) if bound else None)


def _check(file: TaskFile) -> None:
    """What one key alone cannot show, and the bounds of the contract's own structs."""
    try:
        names.name(file.task.name, "task.name")
    except ContractError as error:
        raise BadTask(str(error), field="task.name", limit=error.limit) from error
    known = ["any", *firmware_profiles.names()]
    if unknown := [profile for profile in file.task.profiles if profile not in known]:
        raise BadTask(f"unknown hardware profile {unknown[0]!r}; known: {', '.join(known)}", field="task.profiles", limit=", ".join(known))
    _check_kinds(file)
    _check_bounds(file)
    _check_ranges(file.input)
    _check_distinct(file.output.classes, "output.classes", limits.MAX_CLASSES)
    if file.split.group and file.split.time:
        raise BadTask("split by group or by time, not both", field="split.group")
    if len(file.output.classes) == 1:
        raise BadTask("a classification needs at least two classes", field="output.classes", limit=2)


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


def _check_bounds(file: TaskFile) -> None:
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
