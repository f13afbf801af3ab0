"""The sections of a task file, as strict structs. docs/task-files.md describes every key."""

from typing import Annotated, Literal

import msgspec

from fleet_contract import limits
from fleet_contract.manifest import Limits, Policy

_Count = Annotated[int, msgspec.Meta(ge=1, le=1_000_000)]
_Seed = Annotated[int, msgspec.Meta(ge=0, le=2**32 - 1)]
_Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
_InnerShare = Annotated[float, msgspec.Meta(gt=0, le=0.5)]
_Text = Annotated[str, msgspec.Meta(min_length=1, max_length=1_000)]
_Seconds = Annotated[float, msgspec.Meta(gt=0, le=1e9)]
_Side = Annotated[int, msgspec.Meta(ge=8, le=1_024)]
Augment = Literal["none", "mild", "strong"]
TaskKind = Literal["classification", "regression", "anomaly"]
SplitBy = Literal["time", "group", "order", "shares"]
RangeRule = Literal["minmax", "percentile", "entropy", "mse"]
Recipe = Literal["vector-mlp", "window-cnn", "image-cnn", "image-mobile", "autoencoder", "module"]


class Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    pass


class Head(Section):
    name: _Text
    kind: TaskKind = "classification"
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


class WindowShape(Section, tag="window", tag_field="kind"):
    """The newest `length` samples of a stream, every `stride` samples. `label` says which sample's target is the window's. By time where `period_s`
    is given; `gap_s`: see fleet_contract.inputs.WindowInput."""

    length: Annotated[int, msgspec.Meta(ge=2, le=limits.MAX_WINDOW_VALUES)]
    stride: Annotated[int, msgspec.Meta(ge=1, le=limits.MAX_WINDOW_VALUES)] | None = None
    columns: list[_Text] = []
    ignore: list[_Text] = []
    label: Literal["last", "most", "any"] = "last"
    period_s: _Seconds | None = None
    gap_s: _Seconds | None = None
    range_margin: Annotated[float, msgspec.Meta(ge=0, le=1e6)] = 10.0
    ranges: dict[str, tuple[float, float]] = {}


InputShape = ImageShape | VectorShape | WindowShape


class Answer(Section):
    """`normal` are the labels of an anomaly task that are healthy (none: those called normal, ok, good, no, false or 0). `unit` is a regression's."""

    classes: list[_Text] = []
    normal: list[_Text] = []
    unit: str = ""


class ImageFolder(Section, tag="images", tag_field="reader"):
    folder: _Text
    labels: str | None = None
    min_rows: _Count = 20


class WavFolder(Section, tag="wav", tag_field="reader"):
    """`rate_hz` None: the first file's, which all others must have."""

    folder: _Text
    labels: str | None = None
    rate_hz: Annotated[int, msgspec.Meta(ge=100, le=384_000)] | None = None
    min_rows: _Count = 20


class CsvFile(Section, tag="csv", tag_field="reader"):
    """`header` are the columns of a file without one. `labels` is a file of one target a line, row for row, whose column `target` then names.
    A delimiter of one space stands for any run of blanks and tabs."""

    file: _Text
    target: str | None = None
    header: list[_Text] = []
    labels: str | None = None
    delimiter: Annotated[str, msgspec.Meta(pattern=r'^[^"\r\n\x00]$')] = ","
    missing: Literal["refuse", "skip"] = "refuse"
    min_rows: _Count = 20


class ParquetFile(Section, tag="parquet", tag_field="reader"):
    file: _Text
    target: str | None = None
    missing: Literal["refuse", "skip"] = "refuse"
    min_rows: _Count = 20


class JsonLinesFile(Section, tag="jsonl", tag_field="reader"):
    """One flat object a line."""

    file: _Text
    target: str | None = None
    missing: Literal["refuse", "skip"] = "refuse"
    min_rows: _Count = 20


class NumpyFile(Section, tag="numpy", tag_field="reader"):
    """A .npz; `inputs` and `target` are its arrays, rows first; `times` and `groups` too, where split names them."""

    file: _Text
    inputs: _Text = "x"
    target: str | None = "y"
    min_rows: _Count = 20


DataFile = CsvFile | ParquetFile | JsonLinesFile | NumpyFile | ImageFolder | WavFolder


class Split(Section):
    validation: _InnerShare = 0.1
    test: _InnerShare = 0.2
    seed: _Seed = 0
    group: str | None = None
    time: str | None = None
    by: SplitBy | None = None


class Check(Section):
    """`refuse`: an error in the data ends a training, which else goes on with a warning. `accept` are the codes of findings that are known and
    no longer count (docs/workbench/data-check.md)."""

    refuse: bool = False
    accept: list[_Text] = []


class Training(Section):
    """None means: the recipe chooses by the amount of data. `module` is one's own network, as PACKAGE.MODULE:CALLABLE (docs/model-tools.md).
    `patience` is how many looks at the validation rows without gain end a training; 0: none does. `freeze`: so many layers from the input keep
    the parent's weights."""

    recipe: Recipe | None = None
    module: str | None = None
    seed: _Seed = 0
    epochs: _Count | None = None
    batch: Annotated[int, msgspec.Meta(ge=2, le=4_096)] = 64
    learning_rate: Annotated[float, msgspec.Meta(gt=0, le=1)] = 3e-3
    width: Annotated[int, msgspec.Meta(ge=2, le=1_024)] | None = None
    augment: Augment = "mild"
    class_weights: Literal["none", "balanced"] = "none"
    patience: Annotated[int, msgspec.Meta(ge=0, le=1_000)] = 0
    calibrate: bool = True
    freeze: Annotated[int, msgspec.Meta(ge=0, le=1_000)] = 0
    threads: Annotated[int, msgspec.Meta(ge=1, le=256)] = 1
    device: Literal["cpu", "cuda", "auto"] = "cpu"


class Search(Section):
    """Hyperparameters found by trial, and the spread of a score over `folds`. 0 trials or folds: none."""

    trials: Annotated[int, msgspec.Meta(ge=0, le=1_000)] = 0
    folds: Annotated[int, msgspec.Meta(ge=0, le=20)] = 0
    learning_rate: tuple[float, float] = (3e-4, 3e-2)
    width: list[Annotated[int, msgspec.Meta(ge=2, le=1_024)]] = []


class Retraining(Section):
    """None means: as in Training."""

    seed: _Seed | None = None
    epochs: _Count | None = None
    augment: Augment = "strong"
    new_share: Annotated[float, msgspec.Meta(gt=0, lt=1)] = 0.3
    held_out: _InnerShare = 0.25


class Quantization(Section):
    """`rows` None: 256 pictures or 4096 vectors or windows; `ranges` None: the best by measurement. `budget` is what mixed precision may cost in quality.
    `prefer` auto takes int8 where it is neither slower nor worse than that."""

    prefer: Literal["int8", "fp32", "auto"] = "int8"
    rows: _Count | None = None
    ranges: RangeRule | None = None
    budget: _Share = 0.005


class Gates(Section):
    """Of a classification accuracies, 0..1; of a regression R², of anomalies the area under the ROC curve. None means: clearly better than guessing,
    every class counting the same."""

    min_accuracy: _Share | None = None
    min_r2: Annotated[float, msgspec.Meta(ge=-1, le=1)] | None = None
    min_auc: _Share | None = None
    max_int8_drop: _Share = 0.02
    min_gain_on_new: Annotated[float, msgspec.Meta(ge=-1, le=1)] = 0.05
    max_loss_on_old: _Share = 0.02


class TaskFile(Section, kw_only=True):
    task: Head
    input: InputShape
    output: Answer = Answer()
    data: DataFile
    split: Split = Split()
    check: Check = Check()
    train: Training = Training()
    search: Search = Search()
    retrain: Retraining = Retraining()
    quantize: Quantization = Quantization()
    gates: Gates = Gates()
    policy: Policy = Policy()
    limits: Limits = Limits()
