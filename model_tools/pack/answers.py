"""Known answers: the few inputs a bundle is held to on every board, and how far a board's arithmetic may stray on them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fleet_contract import tensors
from fleet_contract.answers import Answers
from fleet_contract.bundle import KnownAnswers
from model_tools.errors import BadInput, GateFailed
from model_tools.running import Tensors

_MOST_ROWS = 32
_FEWEST_ROWS = 4
_MOST_INPUT_BYTES = 256 * 1024
_PLATFORM_FACTOR = 4.0
_FP32_SHARE = 1e-4
_DISTINCT = 0.5
_FLIPPED_PART = 4
"""A quarter of the rows may be those that variants answer differently."""


@dataclass(frozen=True)
class Answered:
    """What one variant says to the chosen inputs, by output, rows first: `fused` as the runtime runs it, `plain` with every graph
    optimisation off, which does int8 arithmetic by other kernels, as another processor would."""

    variant: str
    precision: str
    fused: Tensors
    plain: Tensors


def choose(inputs: Tensors, said: Sequence[Answers]) -> np.ndarray:
    """Row numbers (sorted, distinct) of the inputs to keep: of each answer the surest and the least sure, then rows which one variant answers
    otherwise than the first, then the least sure of all, as the first gives them: there a wrong rounding would show. Of answers without
    words those that span their values evenly, and those on which variants differ most.

    At most 32 rows and 256 KiB of them, but at least 4 where there are as many. Raises BadInput on no rows.
    """
    most = room(inputs)
    spoken = any(label is not None for label in said[0].labels)
    wanted = _by_word(said, most) if spoken else _by_value(said, most)
    return np.array(sorted([*dict.fromkeys(wanted)][:most]))


def _by_word(said: Sequence[Answers], most: int) -> list[int]:
    first = said[0]
    by_margin = np.argsort(np.array(first.margins), kind="stable")
    flips = np.array([len({*labels}) > 1 for labels in zip(*(s.labels for s in said), strict=True)])
    numbers = {label: number for number, label in enumerate(dict.fromkeys(first.labels))}
    answers = np.array([numbers[label] for label in first.labels])[by_margin]
    least = [int(by_margin[answers == number][0]) for number in np.unique(answers)]
    surest = [int(by_margin[answers == number][-1]) for number in np.unique(answers)]
    flipped = by_margin[flips[by_margin]][: max(1, most // _FLIPPED_PART)]
    return [*surest, *least, *flipped.tolist(), *by_margin.tolist()]


def _by_value(said: Sequence[Answers], most: int) -> list[int]:
    values = np.array([s.values for s in said], np.float64)
    by_value = np.argsort(values[0], kind="stable")
    apart = np.argsort(-np.ptp(values, axis=0), kind="stable")[: max(1, most // _FLIPPED_PART)] if len(said) > 1 else by_value[:0]
    spread = by_value[np.linspace(0, len(by_value) - 1, min(len(by_value), most - len(apart))).round().astype(int)]
    return [*spread.tolist(), *apart.tolist(), *by_value.tolist()]


def room(inputs: Tensors) -> int:
    """How many rows may be kept: a stream's first ones where there are states. Raises BadInput on no rows."""
    rows = len(next(iter(inputs.values())))
    if not rows:
        raise BadInput("known answers need held-out inputs, and there are none", field="held_out")
    row_bytes = sum(values[0].size * (1 if whole_pixels(values) else values.itemsize) for values in inputs.values())
    return min(rows, max(_FEWEST_ROWS, min(_MOST_ROWS, _MOST_INPUT_BYTES // max(1, row_bytes))))


def whole_pixels(inputs: np.ndarray) -> bool:
    """Whether the values are all bytes: such inputs travel as uint8, a quarter of the size."""
    return inputs.ndim == 4 and bool(((inputs >= 0) & (inputs <= 255) & (inputs == np.round(inputs))).all())


def tolerance(answered: Answered, reference: Tensors | None) -> float:
    """The largest absolute difference of output values that a right board may show.

    fp32: 1e-4 of the largest output, or 4 times what re-ordering the arithmetic changed here. int8: also twice the largest rounding error
    against the fp32 variant's answers (`reference`), since two right boards may each be off by it, in opposite directions; but never over
    half of what tells one input's answer from the mean answer, so that a wrong model does not pass.
    Raises GateFailed when rounding alone exceeds that half.
    """
    platform = _largest(answered.fused, answered.plain)
    bound = max(_FP32_SHARE * max(1.0, _largest(answered.fused)), _PLATFORM_FACTOR * platform)
    if answered.precision == "int8" and reference is not None:
        bound = max(bound, _largest(answered.fused, reference))
    limit = _DISTINCT * _largest(answered.fused, {name: values.mean(axis=0) for name, values in _real(answered.fused)})
    if bound > limit:
        raise GateFailed(
            f"variant {answered.variant!r} rounds by {bound:.3g}, while its answers differ by {2 * limit:.3g}: "
            "a wrong model would pass; train or quantize it better, or give more different samples",
            field=answered.variant,
            limit=limit,
            code="indistinct-answers",
        )
    if answered.precision == "int8":
        bound = min(2 * bound, limit)
    step = 10.0 ** (np.floor(np.log10(bound)) - 1)
    return float(f"{np.ceil(bound / step) * step:.2g}")  # two digits, upwards


def as_answers(inputs: Tensors, answered: Sequence[Answered]) -> KnownAnswers:
    """The contract's form of the inputs and of each variant's outputs."""
    return KnownAnswers(
        inputs={name: tensors.of_array(values.astype("uint8") if whole_pixels(values) else values) for name, values in inputs.items()},
        outputs={a.variant: {name: tensors.of_array(values) for name, values in a.fused.items()} for a in answered},
    )


def _largest(one: Tensors, other: Mapping[str, np.ndarray] | None = None) -> float:
    """The largest absolute value, or difference, of all outputs that are numbers."""
    subtracted = {} if other is None else other
    return max((float(np.abs(values - subtracted.get(name, 0.0)).max(initial=0.0)) for name, values in _real(one)), default=0.0)


def _real(outputs: Tensors) -> list[tuple[str, np.ndarray]]:
    return [(name, values.astype(np.float64)) for name, values in outputs.items() if values.dtype.kind in "fiu"]
