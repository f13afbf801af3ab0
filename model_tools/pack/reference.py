"""The reference of a bundle: the grid that sketches count on, and what each known, healthy condition looked like on it.

Output features come from rows that no weight was fitted to: a model is surer of what it has seen, and a reference made from that
would call every healthy device drifted. Input features do not depend on the model, so they may use every row.
"""

from collections.abc import Sequence

import msgspec
import numpy as np

from fleet_contract import features, limits
from fleet_contract.inputs import InputSpec
from fleet_contract.outputs import OutputSpec
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


def fit_grid(spec: InputSpec, output: OutputSpec, inputs: np.ndarray, outputs: np.ndarray) -> Grid:
    """A grid over the input features and the output features, of each a float32 (rows, features), finite.

    The range between the 0.5 % and 99.5 % quantiles, widened by half of it on each side, so that drift moves through bins and one
    outlier does not squeeze everything into one; 0..1 for output features that are shares. Fewer bins where features are many: a window's
    sketch must fit into one record. Raises BadData as check_followable does.
    """
    check_followable(spec, output)
    names, told = features.input_names(spec), features.output_names(output)
    bins = _bins_for(len(names) + len(told))
    margin = _MARGIN if bins >= _FEW_BINS else 0.0
    made = [*_fitted(names, "input", inputs, margin), *_fitted(told, "output", outputs, margin)]
    return Grid(
        features=[Feature(f.name, f.role, 0.0, 1.0) if f.name in features.SHARES and f.role == "output" else f for f in made], bins=bins
    )


def check_followable(spec: InputSpec, output: OutputSpec) -> None:
    """Raises BadData when there are more features than a sketch can hold, or none, or a column has an output feature's name."""
    names, told = features.input_names(spec), features.output_names(output)
    most = limits.MAX_SKETCH_FEATURES - len(told)
    if len(names) > most:
        raise BadData(f"{len(names)} input features, at most {most} can be followed for drift", field="columns", limit=most)
    if not names and not told:
        raise BadData("neither the inputs nor the outputs have a feature that can be followed for drift", field="input")
    if clash := {*names} & {*told}:
        raise BadData(f"column {min(clash)!r} has the name of an output feature: rename it", field=min(clash))


def describe(name: str, grid: Grid, inputs: np.ndarray, outputs: np.ndarray | None) -> Condition:
    """The condition that these rows show: input features (rows, features), and output features (other rows, features) of held-out inputs.

    The condition speaks for output features only where there are some.
    """
    told = [f.name for f in grid.features if f.role == "output"]
    parts = [_sketch(grid, "input", inputs)]
    parts.append(_sketch(grid, "output", np.empty((0, len(told)), np.float32) if outputs is None else outputs))
    spoken = [f.name for f in grid.features if f.role == "input"]
    return Condition(name=name, features=spoken if outputs is None else [*spoken, *told], sketch=_stack(parts))


def inherit(parent: Reference, spec: InputSpec, output: OutputSpec) -> list[Condition]:
    """The parent's conditions but for its training data's, speaking for input features alone: its outputs were another model's.

    Raises BadInput when the parent followed other features.
    """
    followed = [(f.role, f.name) for f in parent.grid.features]
    named = [("input", name) for name in features.input_names(spec)] + [("output", name) for name in features.output_names(output)]
    if followed != named:
        raise BadInput("the parent bundle follows other features than the task: make a new model instead", field="parent")
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
    given = [f.name for f in grid.features if f.role == "input"]
    inputs = len(given)
    old = condition.sketch

    def cut(data: bytes) -> bytes:
        return data[: len(data) * inputs // len(grid.features)].ljust(len(data), b"\0")

    sketch = msgspec.structs.replace(old, counts=cut(old.counts), missing=cut(old.missing), moments=cut(old.moments))
    return Condition(name=condition.name, features=[name for name in condition.features if name in given], sketch=sketch)


def join(grid: Grid, training: Condition, known: Sequence[Condition], new: Condition | None) -> Reference:
    """Training first, then the known ones, the new one last. One of the same name is replaced; the oldest give way above MAX_CONDITIONS."""
    rest = [c for c in known if new is None or c.name != new.name]
    rest += [] if new is None else [new]
    return Reference(grid=grid, conditions=[training, *rest[max(0, len(rest) - (limits.MAX_CONDITIONS - 1)) :]])


def _bins_for(count: int) -> int:
    room = (limits.MAX_RECORD_BYTES - _RECORD_OVERHEAD_BYTES) // count - _FEATURE_OVERHEAD_BYTES
    return max(2, min(_BINS, room // 4 - 2))


def _fitted(names: Sequence[str], role: str, values: np.ndarray, margin: float) -> list[Feature]:
    if not names:
        return []
    low, high = _edges(values.astype(np.float64), margin)
    return [Feature(name, role, float(a), float(b)) for name, a, b in zip(names, low, high, strict=True)]


def _edges(values: np.ndarray, margin: float) -> tuple[np.ndarray, np.ndarray]:
    low, high = np.quantile(values, (_TAIL, 1 - _TAIL), axis=0)
    span = high - low
    # a constant column still needs edges on both sides of its value, apart in float32
    floor = np.maximum(np.abs(low), 1.0) * 1e-3
    flat = span < floor * 1e-3
    pad = np.where(flat, floor, margin * span)
    return low - pad, high + pad


def _sketch(grid: Grid, role: str, values: np.ndarray) -> Sketch:
    followed = [f for f in grid.features if f.role == role]
    if not followed:
        return Sketch(rows=len(values), counts=b"", missing=b"", moments=b"")
    sketcher = Sketcher(Grid(features=followed, bins=grid.bins))
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
