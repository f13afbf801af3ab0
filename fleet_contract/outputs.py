"""What a model's output means: the post-processing that a manifest names. `fleet_contract.answers` carries it out."""

from typing import Annotated, Literal

import msgspec

from fleet_contract import limits
from fleet_contract.errors import BadBundle
from fleet_contract.tensors import TensorSpec

NORMAL, ANOMALY = "normal", "anomaly"

_Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
_Positive = Annotated[int, msgspec.Meta(ge=1)]


class _Struct(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    pass


class Abstention(_Struct):
    """Below this calibrated confidence the answer says that it abstains, and its label is `fallback` (None: none)."""

    below: _Share
    fallback: str | None = None


class Classification(_Struct, tag="classification"):
    """Graph output float32 (batch, len(classes)): logits, divided by `temperature` (Guo et al. 2017), then `activation`. The answer is the largest;
    the `top_k` largest are told."""

    tensor: str
    classes: list[str]
    activation: Literal["softmax", "sigmoid", "none"] = "softmax"
    temperature: float = 1.0
    top_k: _Positive = 1
    abstain: Abstention | None = None

    def __post_init__(self) -> None:
        _check_classes(self.classes, 2)
        _check_temperature(self.temperature)


class Threshold(_Struct, tag="threshold"):
    """Graph output float32 (batch, 1): a logit of `labels[1]`, or its probability with activation none. At or above `threshold` the answer is
    labels[1], else labels[0]; its confidence is the answer's own probability."""

    tensor: str
    labels: tuple[str, str]
    threshold: _Share = 0.5
    activation: Literal["sigmoid", "none"] = "sigmoid"
    temperature: float = 1.0
    abstain: Abstention | None = None

    def __post_init__(self) -> None:
        _check_classes([*self.labels], 2)
        _check_temperature(self.temperature)


class Regression(_Struct, tag="regression"):
    """Graph output float32 (batch, len(targets)): `scale * output + offset` is the value of each target, in its unit. The first target is the answer."""

    tensor: str
    targets: list[str]
    scale: list[float]
    offset: list[float]
    units: list[str]

    def __post_init__(self) -> None:
        _check_classes(self.targets, 1)
        if not len(self.targets) == len(self.scale) == len(self.offset) == len(self.units):
            raise BadBundle("scale, offset and units need one value a target", field="scale")


class Anomaly(_Struct, tag="anomaly"):
    """An anomaly score, "anomaly" at or above `threshold`, else "normal". By `score`: `value` takes a graph output float32 (batch, 1) as it is;
    `reconstruction` is the mean squared difference of the output from the graph's input, of the same shape."""

    tensor: str
    threshold: float
    score: Literal["value", "reconstruction"] = "value"


class Detection(_Struct, tag="detection"):
    """Boxes float32 (batch, n, 4) and scores float32 (batch, n, len(classes)), class 0 being the background where `background` says so. Corners are
    x1, y1, x2, y2; centers cx, cy, w, h; as shares of the picture's width and height. `priors` is the entry of float32 (n, 4) prior boxes as
    centers, with `variances` (SSD, Liu et al. 2016). Of each class boxes at or above `score_threshold` remain whose overlap (IoU) with a better
    one is at most `iou_threshold`; of all classes the best `max_boxes`."""

    boxes: str
    scores: str
    classes: list[str]
    score_threshold: _Share = 0.5
    iou_threshold: _Share = 0.5
    max_boxes: _Positive = 100
    form: Literal["corners", "centers"] = "corners"
    background: bool = False
    activation: Literal["softmax", "sigmoid", "none"] = "none"
    priors: str | None = None
    variances: tuple[float, float] = (0.1, 0.2)

    def __post_init__(self) -> None:
        _check_classes(self.classes, 1 + self.background)
        if self.max_boxes > limits.MAX_BOXES_COUNT:
            raise BadBundle(f"{self.max_boxes} boxes", field="max_boxes", limit=limits.MAX_BOXES_COUNT)


class Raw(_Struct, tag="raw"):
    """No post-processing: the graph's outputs as they are, rows first."""

    tensors: list[TensorSpec]

    def __post_init__(self) -> None:
        names = [tensor.name for tensor in self.tensors]
        if not 1 <= len(names) <= limits.MAX_TENSORS_COUNT or len({*names}) != len(names):
            raise BadBundle("tensors must be distinct, and at least one", field="tensors", limit=limits.MAX_TENSORS_COUNT)


OutputSpec = Classification | Threshold | Regression | Anomaly | Detection | Raw


def labels_of(output: OutputSpec) -> list[str]:
    """The words that an input as a whole is answered with, and that a person may correct the answer to; none where answers are no words."""
    match output:
        case Classification():
            return output.classes
        case Threshold():
            return [*output.labels]
        case Anomaly():
            return [NORMAL, ANOMALY]
        case _:
            return []


def _check_classes(names: list[str], least: int) -> None:
    if not least <= len(names) <= limits.MAX_CLASSES or len({*names}) != len(names):
        raise BadBundle(f"classes must be distinct, and at least {least}", field="classes", limit=limits.MAX_CLASSES)


def _check_temperature(temperature: float) -> None:
    if not 0 < temperature < limits.MAX_SCALE:
        raise BadBundle(f"a temperature of {temperature:g}", field="temperature", limit=limits.MAX_SCALE)
