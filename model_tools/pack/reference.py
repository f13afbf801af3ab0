"""The reference of a bundle: the grid that sketches count on, and what each known, healthy condition looked like on it.

Output features come from rows that no weight was fitted to: a model is surer of what it has seen, and a reference made from that
would call every healthy device drifted. Input features do not depend on the model, so they may use every row.
"""

from collections.abc import Sequence

import msgspec
import numpy as np

from fleet_contract import features, limits
from fleet_contract.inputs import ImageInput, VectorInput
from fleet_contract.sketch import Condition, Feature, Grid, Reference, Sketch, Sketcher, counts_of
from model_tools.errors import BadData, BadInput

TRAINING = "training"
"""The condition that the task's own data shows."""
_BINS = 64
_FEW_BINS = 32
_RECORD_OVERHEAD_BYTES = 512
_FEATURE_OVERHEAD_BYTES = 20
_TAIL = 0.005
_MARGIN = 0.5


def fit_grid(spec: ImageInput | VectorInput, inputs: np.ndarray) -> Grid:
    """A grid over the input features (float32 (rows, features), finite) and the output features.

    Inputs: the range between the 0.5 % and 99.5 % quantiles, widened by half of it on each side, so that drift moves through bins and one
    outlier does not squeeze everything into one. Fewer bins where features are many: a window's sketch must fit into one record.
    Raises BadData as check_followable does.
    """
    check_followable(spec)
    names = features.input_names(spec)
    bins = _bins_for(len(names) + len(features.OUTPUT))
    low, high = _edges(inputs.astype(np.float64), _MARGIN if bins >= _FEW_BINS else 0.0)
    made = [Feature(name, "input", float(a), float(b)) for name, a, b in zip(names, low, high, strict=True)]
    return Grid(features=[*made, *(Feature(name, "output", 0.0, 1.0) for name in features.OUTPUT)], bins=bins)


def check_followable(spec: ImageInput | VectorInput) -> None:
    """Raises BadData when there are more features than a sketch can hold, or a column has an output feature's name."""
    names = features.input_names(spec)
    most = limits.MAX_SKETCH_FEATURES - len(features.OUTPUT)
    if len(names) > most:
        raise BadData(f"{len(names)} input features, at most {most} can be followed for drift", field="columns", limit=most)
    if clash := {*names} & {*features.OUTPUT}:
        raise BadData(f"column {min(clash)!r} has the name of an output feature: rename it", field=min(clash))


def describe(name: str, grid: Grid, inputs: np.ndarray, probabilities: np.ndarray | None) -> Condition:
    """The condition that these rows show: input features (rows, features), and class probabilities (other rows, classes) of held-out inputs.

    The condition speaks for output features only where probabilities are given.
    """
    parts = [_sketch(grid, "input", inputs)]
    spoken = [f.name for f in grid.features if f.role == "input"]
    if probabilities is None:
        parts.append(_sketch(grid, "output", np.empty((0, len(features.OUTPUT)), np.float32)))
    else:
        parts.append(_sketch(grid, "output", features.of_outputs(probabilities)))
        spoken += features.OUTPUT
    return Condition(name=name, features=spoken, sketch=_stack(parts))


def inherit(parent: Reference, spec: ImageInput | VectorInput) -> list[Condition]:
    """The parent's conditions but for its training data's, speaking for input features alone: its outputs were another model's.

    Raises BadInput when the parent followed other input features.
    """
    names = [f.name for f in parent.grid.features if f.role == "input"]
    if names != list(features.input_names(spec)):
        raise BadInput("the parent bundle follows other input features than the task: make a new model instead", field="parent")
    return [speak_for_inputs(condition, parent.grid) for condition in parent.conditions if condition.name != TRAINING]


def accept(condition: Condition, grid: Grid) -> Condition:
    """A condition from the field as a bundle may hold it: for inputs alone. Raises BadInput (its names), BadSketch (it is on another grid)."""
    if condition.name == TRAINING:
        raise BadInput(f"a new condition cannot be called {TRAINING!r}", field="condition")
    if unknown := {*condition.features} - {f.name for f in grid.features}:
        raise BadInput(f"the condition speaks for {min(unknown)!r}, which the bundle does not follow", field="condition")
    counts_of(condition.sketch, grid)
    return speak_for_inputs(condition, grid)


def speak_for_inputs(condition: Condition, grid: Grid) -> Condition:
    """The same condition without what it says about outputs; their counts are zero."""
    inputs = sum(f.role == "input" for f in grid.features)
    old = condition.sketch

    def cut(data: bytes) -> bytes:
        return data[: len(data) * inputs // len(grid.features)].ljust(len(data), b"\0")

    sketch = msgspec.structs.replace(old, counts=cut(old.counts), missing=cut(old.missing), moments=cut(old.moments))
    spoken = [name for name in condition.features if name not in features.OUTPUT]
    return Condition(name=condition.name, features=spoken, sketch=sketch)


def join(grid: Grid, training: Condition, known: Sequence[Condition], new: Condition | None) -> Reference:
    """Training first, then the known ones, the new one last. One of the same name is replaced; the oldest give way above MAX_CONDITIONS."""
    rest = [c for c in known if new is None or c.name != new.name]
    rest += [] if new is None else [new]
    return Reference(grid=grid, conditions=[training, *rest[max(0, len(rest) - (limits.MAX_CONDITIONS - 1)) :]])


def _bins_for(count: int) -> int:
    room = (limits.MAX_RECORD_BYTES - _RECORD_OVERHEAD_BYTES) // count - _FEATURE_OVERHEAD_BYTES
    return max(2, min(_BINS, room // 4 - 2))


def _edges(values: np.ndarray, margin: float) -> tuple[np.ndarray, np.ndarray]:
    low, high = np.quantile(values, (_TAIL, 1 - _TAIL), axis=0)
    span = high - low
    # a constant column still needs edges on both sides of its value, apart in float32
    floor = np.maximum(np.abs(low), 1.0) * 1e-3
    flat = span < floor * 1e-3
    pad = np.where(flat, floor, margin * span)
    return low - pad, high + pad


def _sketch(grid: Grid, role: str, values: np.ndarray) -> Sketch:
    sketcher = Sketcher(Grid(features=[f for f in grid.features if f.role == role], bins=grid.bins))
    if len(values):
        sketcher.add(np.ascontiguousarray(values, np.float32))
    return sketcher.sketch()


def _stack(parts: Sequence[Sketch]) -> Sketch:
    """Sketches of neighbouring features as one; `rows` is the first one's."""
    return Sketch(
        rows=parts[0].rows,
        counts=b"".join(p.counts for p in parts),
        missing=b"".join(p.missing for p in parts),
        moments=b"".join(p.moments for p in parts),
    )
