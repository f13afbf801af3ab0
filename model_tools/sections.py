"""The sections of a task file, as strict structs. docs/task-files.md describes every key."""

from typing import Annotated, Literal

import msgspec

from fleet_contract.manifest import Limits, Policy

_Count = Annotated[int, msgspec.Meta(ge=1, le=1_000_000)]
_Seed = Annotated[int, msgspec.Meta(ge=0, le=2**32 - 1)]
_Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
_InnerShare = Annotated[float, msgspec.Meta(gt=0, le=0.5)]
_Text = Annotated[str, msgspec.Meta(min_length=1, max_length=1_000)]
_Side = Annotated[int, msgspec.Meta(ge=8, le=1_024)]
Augment = Literal["none", "mild", "strong"]
Recipe = Literal["image-cnn", "vector-mlp"]


class Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    pass


class Head(Section):
    name: _Text
    kind: Literal["classification"] = "classification"
    description: str = ""
    profiles: Annotated[list[_Text], msgspec.Meta(min_length=1)] = msgspec.field(default_factory=lambda: ["any"])


class ImageShape(Section, tag="image", tag_field="kind"):
    height: _Side
    width: _Side
    channels: Literal[1, 3]


class VectorShape(Section, tag="vector", tag_field="kind"):
    columns: list[_Text] = []
    ignore: list[_Text] = []
    range_margin: Annotated[float, msgspec.Meta(ge=0, le=1e6)] = 10.0
    ranges: dict[str, tuple[float, float]] = {}


class Answer(Section):
    classes: list[_Text] = []


class ImageFolder(Section, tag="images", tag_field="reader"):
    folder: _Text
    labels: str | None = None
    min_rows: _Count = 20


class CsvFile(Section, tag="csv", tag_field="reader"):
    file: _Text
    target: _Text
    delimiter: Annotated[str, msgspec.Meta(pattern=r'^[^"\r\n\x00]$')] = ","
    missing: Literal["refuse", "skip"] = "refuse"
    min_rows: _Count = 20


class Split(Section):
    validation: _InnerShare = 0.1
    test: _InnerShare = 0.2
    seed: _Seed = 0
    group: str | None = None
    time: str | None = None


class Training(Section):
    """None means: the recipe chooses by the amount of data."""

    recipe: Recipe | None = None
    seed: _Seed = 0
    epochs: _Count | None = None
    batch: Annotated[int, msgspec.Meta(ge=2, le=4_096)] = 64
    learning_rate: Annotated[float, msgspec.Meta(gt=0, le=1)] = 3e-3
    width: Annotated[int, msgspec.Meta(ge=2, le=1_024)] | None = None
    augment: Augment = "mild"
    threads: Annotated[int, msgspec.Meta(ge=1, le=256)] = 1


class Retraining(Section):
    """None means: as in Training."""

    seed: _Seed | None = None
    epochs: _Count | None = None
    augment: Augment = "strong"
    new_share: Annotated[float, msgspec.Meta(gt=0, lt=1)] = 0.3
    held_out: _InnerShare = 0.25


class Quantization(Section):
    """None means: 256 pictures or 4096 vectors."""

    prefer: Literal["int8", "fp32"] = "int8"
    rows: _Count | None = None


class Gates(Section):
    """Accuracies, 0..1. None means: clearly better than guessing, every class counting the same."""

    min_accuracy: _Share | None = None
    max_int8_drop: _Share = 0.02
    min_gain_on_new: Annotated[float, msgspec.Meta(ge=-1, le=1)] = 0.05
    max_loss_on_old: _Share = 0.02


class TaskFile(Section, kw_only=True):
    task: Head
    input: ImageShape | VectorShape
    output: Answer = Answer()
    data: ImageFolder | CsvFile
    split: Split = Split()
    train: Training = Training()
    retrain: Retraining = Retraining()
    quantize: Quantization = Quantization()
    gates: Gates = Gates()
    policy: Policy = Policy()
    limits: Limits = Limits()
