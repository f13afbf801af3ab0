"""What a model is fed with: how a source's input becomes the graph's. Scaling to what the layers want is the graph's own work."""

from typing import Annotated, Literal

import msgspec

from fleet_contract import limits
from fleet_contract.errors import BadBundle
from fleet_contract.tensors import TensorSpec

_Positive = Annotated[int, msgspec.Meta(ge=1)]


class _Struct(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    pass


class ImageInput(_Struct, tag="image"):
    """Graph input float32 (batch, channels, height, width), or (batch, height, width, channels) by `layout`; pixel values 0..255.
    Channels 1 is grey, 3 is RGB. A graph made elsewhere may want `scale * pixel + offset`: the worker computes that; everybody else sees pixels."""

    tensor: str
    height: _Positive
    width: _Positive
    channels: Literal[1, 3]
    layout: Literal["nchw", "nhwc"] = "nchw"
    scale: float = 1.0
    offset: float = 0.0

    def __post_init__(self) -> None:
        if self.height * self.width * self.channels > limits.MAX_INPUT_VALUES:
            raise BadBundle(f"an image of {self.height} x {self.width} is too large", field="height", limit=limits.MAX_INPUT_VALUES)
        if not (abs(self.scale) < limits.MAX_SCALE and abs(self.offset) < limits.MAX_SCALE and self.scale):
            raise BadBundle(f"pixels scaled by {self.scale:g} and {self.offset:g}", field="scale", limit=limits.MAX_SCALE)


class VectorInput(_Struct, tag="vector"):
    """Graph input float32 (batch, len(columns)) in raw units; scaling is inside the graph. A value outside [low, high] is refused."""

    tensor: str
    columns: list[str]
    low: list[float]
    high: list[float]

    def __post_init__(self) -> None:
        _check_columns(self.columns, self.low, self.high)


class WindowInput(_Struct, tag="window"):
    """Graph input float32 (batch, length, len(columns)) in raw units, (batch, length) for `flat` with one column: the newest `length` samples of a
    stream, every `stride` samples. By count, samples follow each other as they come. By time, sample k of a window is the newest one not
    later than start + k * period_s, so a missing one is the one before it again. Samples out of order are refused; a pause longer than `gap_s`
    (None: any) ends the open window, and the next one begins behind it."""

    tensor: str
    columns: list[str]
    low: list[float]
    high: list[float]
    length: _Positive
    stride: _Positive
    by: Literal["count", "time"] = "count"
    period_s: float | None = None
    gap_s: float | None = None
    flat: bool = False

    def __post_init__(self) -> None:
        _check_columns(self.columns, self.low, self.high)
        if self.length * len(self.columns) > limits.MAX_WINDOW_VALUES or self.stride > limits.MAX_WINDOW_VALUES:
            raise BadBundle(f"a window of {self.length} samples every {self.stride}", field="length", limit=limits.MAX_WINDOW_VALUES)
        if self.flat and len(self.columns) != 1:
            raise BadBundle("a flat window has one column", field="flat", limit=1)
        if (self.by == "time") != (self.period_s is not None):
            raise BadBundle("a window by time, and no other, needs period_s", field="period_s")
        if not all(value is None or 0 < value < float("inf") for value in (self.period_s, self.gap_s)):
            raise BadBundle("times must be positive", field="period_s" if self.gap_s is None else "gap_s")


class TensorsInput(_Struct, tag="tensors"):
    """Whatever the graph takes, by name; rows first. Fed by local applications; by a source of one's own, if it is one tensor."""

    tensors: list[TensorSpec]

    def __post_init__(self) -> None:
        names = [tensor.name for tensor in self.tensors]
        if not 1 <= len(names) <= limits.MAX_TENSORS_COUNT or len({*names}) != len(names):
            raise BadBundle("tensors must be distinct, and at least one", field="tensors", limit=limits.MAX_TENSORS_COUNT)


InputSpec = ImageInput | VectorInput | WindowInput | TensorsInput


def _check_columns(columns: list[str], low: list[float], high: list[float]) -> None:
    if not 1 <= len(columns) <= limits.MAX_CSV_COLUMNS or len({*columns}) != len(columns):
        raise BadBundle("columns must be distinct, and at least one", field="columns", limit=limits.MAX_CSV_COLUMNS)
    if not len(columns) == len(low) == len(high):
        raise BadBundle("low and high need one value a column", field="low")
