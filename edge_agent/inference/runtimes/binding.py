"""From the caller's values to a graph's own tensors and back, as a plan binds them: names, types, scales, and as many rows as the graph takes."""

from collections.abc import Callable, Iterator, Mapping
from functools import partial

import numpy as np

from edge_agent.errors import Reject
from edge_agent.inference.plan import Bound, GraphSignature, GraphTensor, Plan
from fleet_contract.tensors import STRING, DType

Run = Callable[[dict[str, np.ndarray]], list[np.ndarray]]
"""The graph's wanted outputs in the plan's order, of its inputs by its own names."""
_Convert = Callable[[np.ndarray], np.ndarray]


class Binding:
    """One plan on one graph. Of a graph whose strings are `text` only UTF-8 may be asked."""

    def __init__(self, plan: Plan, graph: GraphSignature, *, text: bool = False) -> None:
        """Raises Reject (bundle) where they do not fit."""
        self._rows = plan.batch_rows
        inputs = _matched(plan.inputs, graph.inputs, "input", every=True)
        outputs = _matched(plan.outputs, graph.outputs, "output", every=False)
        self._inputs, self._outputs = [bound for bound, _ in inputs], [bound for bound, _ in outputs]
        self._entering = [(bound.name, bound.graph, _entering(bound, tensor, text=text)) for bound, tensor in inputs]
        self._leaving = [(bound.name, _leaving(bound, tensor)) for bound, tensor in outputs]

    def infer(self, inputs: Mapping[str, np.ndarray], run: Run) -> dict[str, np.ndarray]:
        """The plan's outputs, in its types and C order, of its inputs: by one run, or by as many as the graph's fixed rows ask for.
        Raises Reject (bundle, bad-input, wrong-answer)."""
        if not self._rows:
            return self._once(inputs, run)
        rows = self._count(inputs)
        if rows == self._rows:
            return self._once(inputs, run)
        steps = [self._once(step, run) for step in self._steps(inputs, rows)]
        return {bound.name: self._joined(bound, steps, rows) for bound in self._outputs}

    def _once(self, inputs: Mapping[str, np.ndarray], run: Run) -> dict[str, np.ndarray]:
        """Every request of a small model feels what is done here."""
        fed = {graph: enter(inputs[name]) for name, graph, enter in self._entering}
        answers = {}
        for (name, leave), answer in zip(self._leaving, run(fed), strict=True):
            if not isinstance(answer, np.ndarray):
                raise Reject(f"the output {name!r} is a {type(answer).__name__}, not a tensor", code="wrong-answer")
            left = answer if leave is None else leave(answer)
            answers[name] = left if left.flags.c_contiguous else left.copy("C")
        return answers

    def _count(self, inputs: Mapping[str, np.ndarray]) -> int:
        counts = {len(inputs[bound.name]) for bound in self._inputs if bound.rows}
        if len(counts) != 1:
            raise Reject(f"the inputs have {sorted(counts)} rows, and the graph takes {self._rows} at once", code="bundle")
        return counts.pop()

    def _steps(self, inputs: Mapping[str, np.ndarray], rows: int) -> Iterator[dict[str, np.ndarray]]:
        """The last row again where the last step has too few."""
        for start in range(0, rows, self._rows):
            taken = np.minimum(np.arange(start, start + self._rows), rows - 1)
            yield {b.name: inputs[b.name][taken] if b.rows else inputs[b.name] for b in self._inputs}

    def _joined(self, bound: Bound, steps: list[dict[str, np.ndarray]], rows: int) -> np.ndarray:
        if not bound.rows:
            raise Reject(f"{rows} rows at once; the graph takes {self._rows}, and leaves {bound.name!r} behind", code="bundle")
        return np.concatenate([step[bound.name] for step in steps])[:rows]


def _matched(wanted: list[Bound], found: list[GraphTensor], what: str, *, every: bool) -> list[tuple[Bound, GraphTensor]]:
    tensors = {tensor.name: tensor for tensor in found}
    names = {bound.graph for bound in wanted}
    if not names <= {*tensors} or (every and names != {*tensors}):
        raise Reject(f"the graph's {what}s are {', '.join(tensors)}; the bundle wants {', '.join(sorted(names))}", code="bundle")
    return [(bound, tensors[bound.graph]) for bound in wanted]


def _entering(bound: Bound, tensor: GraphTensor, *, text: bool) -> _Convert:
    _check_pair(bound, tensor, bound.dtype, tensor.dtype, rounded=True)
    if tensor.dtype == STRING:
        return _text if text else _plain
    scaled = (bound.scale, bound.offset) != (1.0, 0.0)
    dtype = np.dtype(tensor.dtype)
    if bound.dtype == tensor.dtype and not scaled:
        return _Pixels(dtype)
    convert = partial(
        _quantized if tensor.scale else _cast,
        scaling=(bound.scale, bound.offset) if scaled else None,
        dtype=dtype,
        **({"scale": tensor.scale, "zero_point": tensor.zero_point} if tensor.scale else {}),
    )
    return _tabled(convert, dtype) if dtype.itemsize == 1 else convert


def _leaving(bound: Bound, tensor: GraphTensor) -> _Convert | None:
    if bound.dtype == tensor.dtype:
        return _bytes if bound.dtype == STRING else None
    _check_pair(bound, tensor, "float32" if tensor.scale else tensor.dtype, bound.dtype, rounded=False)
    if tensor.scale:
        return partial(_real, dtype=np.dtype(bound.dtype), scale=tensor.scale, zero_point=tensor.zero_point)
    return partial(np.ndarray.astype, dtype=np.dtype(bound.dtype))


def _check_pair(bound: Bound, tensor: GraphTensor, given: str, taken: str, *, rounded: bool) -> None:
    """Text stays text; numbers may become floats of any width, or whole numbers that hold them all, any whole numbers where they are `rounded`."""
    known = {given, taken} <= {*DType.__args__}
    if known and (given == taken or (STRING not in (given, taken) and _fits(np.dtype(given), np.dtype(taken), rounded=rounded))):
        return
    raise Reject(f"the graph's {tensor.name!r} is {tensor.dtype}; the bundle's {bound.name!r} is {bound.dtype}", code="bundle")


def _fits(given: np.dtype, taken: np.dtype, *, rounded: bool) -> bool:
    if rounded:
        return taken.kind != "b"
    return np.can_cast(given, taken, "same_kind" if taken.kind == "f" else "safe")


class _Pixels:
    """Values of the type, or pixels, which come as bytes: they are cast into one array, valid until the next are."""

    def __init__(self, dtype: np.dtype) -> None:
        self._dtype = dtype
        self._cast = np.empty(0, dtype)

    def __call__(self, values: np.ndarray) -> np.ndarray:
        if values.dtype == self._dtype:
            flags = values.flags
            return values if flags.c_contiguous and flags.aligned else values.copy("C")
        if self._cast.shape != values.shape:
            self._cast = np.empty(values.shape, self._dtype)
        np.copyto(self._cast, values, casting="unsafe")
        return self._cast


def _plain(values: np.ndarray) -> np.ndarray:
    """Engines read at addresses that fit the type, in C order."""
    flags = values.flags
    return values if flags.c_contiguous and flags.aligned else values.copy("C")


def _tabled(convert: _Convert, dtype: np.dtype) -> _Convert:
    """Of pixels, which come as bytes, what becomes of each of the 256 is found once (a frame then takes half the time)."""
    table = convert(np.arange(256, dtype=np.uint8)).tobytes()

    def converted(values: np.ndarray) -> np.ndarray:
        if values.dtype != np.uint8:
            return convert(values)
        return np.frombuffer(values.tobytes().translate(table), dtype).reshape(values.shape)

    return converted


def _cast(values: np.ndarray, *, scaling: tuple[float, float] | None, dtype: np.dtype) -> np.ndarray:
    """Whole numbers are rounded to even and kept within the type."""
    real = values if scaling is None else _scaled(values, scaling)
    if dtype.kind == "f" or np.can_cast(real.dtype, dtype, "safe"):
        return real.astype(dtype, "C")
    return _whole(np.rint(real) if real.dtype.kind == "f" else real, dtype)


def _quantized(values: np.ndarray, *, scaling: tuple[float, float] | None, dtype: np.dtype, scale: float, zero_point: int) -> np.ndarray:
    """round(value / scale) + zero point, kept within the type (Jacob et al. 2018, arXiv 1712.05877)."""
    real = values if scaling is None else _scaled(values, scaling)
    quotient = np.divide(real, np.float32(scale), dtype=np.float32, casting="same_kind")
    np.rint(quotient, out=quotient)
    quotient += np.float32(zero_point)
    return _whole(quotient, dtype)


def _real(values: np.ndarray, *, dtype: np.dtype, scale: float, zero_point: int) -> np.ndarray:
    """(value - zero point) * scale, in float32."""
    real = values.astype(np.float32)
    real -= np.float32(zero_point)
    real *= np.float32(scale)
    return real.astype(dtype, copy=False)


def _scaled(values: np.ndarray, scaling: tuple[float, float]) -> np.ndarray:
    scale, offset = scaling
    scaled = np.multiply(values, np.float32(scale), dtype=np.float32, casting="unsafe")
    scaled += np.float32(offset)
    return scaled


def _whole(values: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Floats are rounded already, and used up. Raises Reject (bad-input) for NaN, which no whole number stands for."""
    least, most = np.iinfo(dtype).min, np.iinfo(dtype).max
    if values.dtype.kind != "f":
        own = np.iinfo(values.dtype)
        return np.clip(values, max(least, own.min), min(most, own.max)).astype(dtype, "C")
    if values.size and np.isnan(values.min()):  # which is NaN where any is
        raise Reject(f"an input is NaN, and the graph takes {dtype}", code="bad-input")
    return np.clip(values, least, _float_below(most, values.dtype), out=values).astype(dtype, "C")


def _float_below(most: int, dtype: np.dtype) -> np.floating:
    """The largest that is not beyond it: in float32, 2**31 - 1 is rounded up."""
    nearest = min(dtype.type(most), np.finfo(dtype).max)
    return nearest if int(nearest) <= most else np.nextafter(nearest, dtype.type(0))


def _text(values: np.ndarray) -> np.ndarray:
    """Raises Reject (bad-input) for bytes that are no UTF-8."""
    try:
        items = [item.decode() if isinstance(item, bytes) else str(item) for item in values.ravel().tolist()]
    except UnicodeDecodeError as error:
        raise Reject(f"a string is no UTF-8: {error}", code="bad-input") from error
    return _objects(items, values.shape)


def _bytes(values: np.ndarray) -> np.ndarray:
    return _objects([item if isinstance(item, bytes) else str(item).encode() for item in values.ravel().tolist()], values.shape)


def _objects(items: list, shape: tuple[int, ...]) -> np.ndarray:
    found = np.empty(len(items), object)
    found[:] = items
    return found.reshape(shape)
