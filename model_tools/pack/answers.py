"""Known answers: the few inputs a bundle is held to on every board, and how far a board's arithmetic may stray on them."""

from dataclasses import dataclass

import numpy as np

from fleet_contract import tensors
from fleet_contract.bundle import KnownAnswers
from model_tools.errors import BadInput, GateFailed

_MOST_ROWS = 32
_FEWEST_ROWS = 4
_MOST_INPUT_BYTES = 256 * 1024
_PLATFORM_FACTOR = 4.0
_FP32_SHARE = 1e-4
_DISTINCT = 0.5


@dataclass(frozen=True)
class Answered:
    """What one variant says to the chosen inputs, float32 (rows, classes): `fused` as the runtime runs it, `plain` with every graph
    optimisation off, which does int8 arithmetic by other kernels, as another processor would."""

    variant: str
    precision: str
    fused: np.ndarray
    plain: np.ndarray


def choose(inputs: np.ndarray, logits: np.ndarray) -> np.ndarray:
    """Row numbers (sorted, distinct) of the inputs to keep: of each predicted class the surest and the least sure, then the least sure of all.

    At most 32 rows and 256 KiB of them, but at least 4 where there are as many. Raises BadInput on no rows.
    """
    if not len(inputs):
        raise BadInput("known answers need held-out inputs, and there are none", field="held_out")
    row_bytes = max(1, inputs[0].size * (1 if whole_pixels(inputs) else 4))
    most = min(len(inputs), max(_FEWEST_ROWS, min(_MOST_ROWS, _MOST_INPUT_BYTES // row_bytes)))
    ordered = np.sort(logits, axis=1)
    by_margin = np.argsort(ordered[:, -1] - ordered[:, -2], kind="stable")
    predicted = logits.argmax(axis=1)[by_margin]
    least = [int(by_margin[predicted == c][0]) for c in np.unique(predicted)]
    surest = [int(by_margin[predicted == c][-1]) for c in np.unique(predicted)]
    wanted = dict.fromkeys([*surest, *least, *by_margin.tolist()])
    return np.array(sorted(list(wanted)[:most]))


def whole_pixels(inputs: np.ndarray) -> bool:
    """Whether the values are all bytes: such inputs travel as uint8, a quarter of the size."""
    return inputs.ndim == 4 and bool(((inputs >= 0) & (inputs <= 255) & (inputs == np.round(inputs))).all())


def tolerance(answered: Answered, reference: np.ndarray | None) -> float:
    """The largest absolute difference of output values that a right board may show.

    fp32: 1e-4 of the largest output, or 4 times what re-ordering the arithmetic changed here. int8: also twice the largest rounding error
    against the fp32 variant's answers (`reference`), since two right boards may each be off by it, in opposite directions; but never over
    half of what tells one input's answer from the mean answer, so that a wrong model does not pass.
    Raises GateFailed when rounding alone exceeds that half.
    """
    platform = float(np.abs(answered.fused - answered.plain).max())
    bound = max(_FP32_SHARE * max(1.0, float(np.abs(answered.fused).max())), _PLATFORM_FACTOR * platform)
    if answered.precision == "int8" and reference is not None:
        bound = max(bound, float(np.abs(answered.fused - reference).max()))
    limit = _DISTINCT * float(np.abs(answered.fused - answered.fused.mean(axis=0)).max())
    if bound > limit:
        raise GateFailed(
            f"variant {answered.variant!r} rounds by {bound:.3g}, while its answers differ by {2 * limit:.3g}: "
            "a wrong model would pass; train or quantize it better",
            field=answered.variant,
            limit=limit,
            code="indistinct-answers",
        )
    if answered.precision == "int8":
        bound = min(2 * bound, limit)
    step = 10.0 ** (np.floor(np.log10(bound)) - 1)
    return float(f"{np.ceil(bound / step) * step:.2g}")  # two digits, upwards


def as_answers(tensor: str, inputs: np.ndarray, output: str, answered: list[Answered]) -> KnownAnswers:
    """The contract's form of the inputs (rows, ...) for the graph's `tensor`, and of each variant's `output`."""
    dtype = "uint8" if whole_pixels(inputs) else "float32"
    return KnownAnswers(
        inputs={tensor: tensors.of_array(inputs.astype(dtype))},
        outputs={a.variant: {output: tensors.of_array(a.fused.astype(np.float32))} for a in answered},
    )
