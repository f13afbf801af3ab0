"""How a model is made smaller, and what became of it, as values."""

from dataclasses import dataclass
from typing import Literal

from model_tools.sections import RangeRule

Kind = Literal["float", "int8", "dynamic", "fp16", "weights", "qat"]


@dataclass(frozen=True)
class Recipe:
    """`int8`: activations and weights, ranges known beforehand; `dynamic`: int8 weights, ranges of each input as it comes; `fp16`: half precision
    inside, float32 outside; `weights`: stored as int8, computed as float; `qat`: int8, and the network learnt on
    to bear it. `pruned` of its channels it lost first. The rest is of `int8`: `ranges` says how those of activations are found;
    `equalized`: channels are rescaled to the same range first, which changes nothing in float; `excluded` are layers that stay float."""

    kind: Kind
    ranges: RangeRule = "minmax"
    per_channel: bool = True
    equalized: bool = False
    excluded: tuple[str, ...] = ()
    pruned: float = 0.0

    @property
    def title(self) -> str:
        """In a few words."""
        lost = f"{self.pruned:.0%} pruned " if self.pruned else ""
        if self.kind != "int8":
            return lost + self.kind
        parts = ["int8", self.ranges, *(["equalized"] if self.equalized else []), *([] if self.per_channel else ["per tensor"])]
        kept = f" ({len(self.excluded)} layers float)" if self.excluded else ""
        return lost + " ".join(parts) + kept


@dataclass(frozen=True)
class Quantized:
    """An ONNX file, how it was made, and what a person should know of it."""

    recipe: Recipe
    model: bytes
    warnings: tuple[str, ...] = ()
