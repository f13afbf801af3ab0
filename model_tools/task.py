"""The task file: everything the workbench knows of a task, so that a new one needs no code.

[task]
name = "bearing-wear"                  # names the bundles: a-z, 0-9, '.', '_', '-'
kind = "classification"                # the only kind so far
description = "Wear of a bearing from four sensors."
profiles = ["any"]                     # hardware profiles that the bundle fits

[input]
kind = "vector"                        # or "image" with height, width, channels (1 grey, 3 RGB)
columns = ["temp", "vib"]              # left out: every column but target, group and time
range_margin = 10.0                    # a device refuses values further outside the training range than this many times its span
ranges = { temp = [-40.0, 200.0] }     # or these bounds

[output]
classes = ["good", "worn"]             # left out: what the data shows

[data]
reader = "csv"                         # file, target, delimiter
file = "rows.csv"                      # paths are relative to the task file
target = "state"
min_rows = 20

# [data]                               # pictures: folder/<class>/<name>.jpg, or a labels CSV with the header file,label
# reader = "images"
# folder = "frames"
# labels = "labels.csv"

[split]
validation = 0.1
test = 0.2
seed = 0
# group = "machine"                    # CSV column (of rows or labels): a group's rows stay together
# time = "at"                          # CSV column: the newest rows are the test

[train]                                # all optional; left-out numbers follow the amount of data
recipe = "vector-mlp"                  # or "image-cnn"
seed = 0
epochs = 60
batch = 64
learning_rate = 0.003
width = 64                             # hidden units, or channels of the first layer
augment = "mild"                       # none, mild or strong

[retrain]                              # as [train], for a challenger on old data and new labels
augment = "strong"
new_share = 0.4                        # share of the training draws that are new labels
held_out = 0.25                        # share of the new labels kept back for the gates

[quantize]
prefer = "int8"                        # the variant devices take first: int8 or fp32
rows = 256                             # training rows for calibration

[gates]
min_accuracy = 0.7
max_int8_drop = 0.02
min_gain_on_new = 0.05
max_loss_on_old = 0.02

[policy.drift] [policy.sampling] [policy.retrain] [policy.rollout] [limits]    # fleet_contract.bundle.Policy and Limits
"""

import hashlib
import re
import tomllib
import types
import typing
from dataclasses import dataclass
from pathlib import Path

import msgspec

from fleet_contract import limits, names
from fleet_contract.bundle import Limits, Policy
from fleet_contract.errors import ContractError
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
    """Name an unknown key together with those allowed, which msgspec does not."""
    struct = _struct_of(table, kind)
    if struct is None or not isinstance(table, dict):
        return
    fields = {f.encode_name: f.type for f in msgspec.structs.fields(struct)}
    config = struct.__struct_config__
    allowed = [*([config.tag_field] if config.tag is not None else []), *fields]
    for key, value in table.items():
        if key not in allowed:
            raise BadTask(f"unknown key {where + key!r}; allowed here: {', '.join(allowed)}", field=where + key, limit=", ".join(allowed))
        _check_keys(value, fields.get(key), f"{where}{key}.")


def _struct_of(table: object, kind: object) -> type[msgspec.Struct] | None:
    """The struct that a table of this declared type is to become; of a tagged union the one that its tag names."""
    options = typing.get_args(kind) if isinstance(kind, types.UnionType) else (kind,)
    structs = [option for option in options if isinstance(option, type) and issubclass(option, msgspec.Struct)]
    if len(structs) < 2:
        return structs[0] if structs else None
    tag = table.get(structs[0].__struct_config__.tag_field) if isinstance(table, dict) else None
    return next((s for s in structs if s.__struct_config__.tag == tag), None)


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
    """What one key alone cannot show."""
    for value, field in ((file.task.name, "task.name"), *((p, "task.profiles") for p in file.task.profiles)):
        try:
            names.name(value, field)
        except ContractError as error:
            raise BadTask(str(error), field=field, limit=error.limit) from error
    _check_kinds(file)
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


def _check_ranges(shape: ImageShape | VectorShape) -> None:
    if isinstance(shape, ImageShape):
        return
    _check_distinct(shape.columns, "input.columns", limits.MAX_CSV_COLUMNS)
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
