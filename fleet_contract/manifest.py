"""The manifest: what a bundle says of itself. Tensors are named as a caller sees them; a variant may map them to its graph's own."""

from math import prod
from typing import Annotated, Literal

import msgspec

from fleet_contract import limits
from fleet_contract.errors import BadBundle
from fleet_contract.inputs import InputSpec
from fleet_contract.outputs import OutputSpec
from fleet_contract.tensors import DType

VERSION = 1
_Positive = Annotated[int, msgspec.Meta(ge=1)]


class _Struct(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    pass


class Entry(_Struct):
    sha256: str
    length: int


class Variant(_Struct):
    """One model file. `tolerance` is the largest allowed absolute difference of a known answer's output values. `batch_rows` is what the graph takes
    at once, 0 for any number; `tensors` maps the manifest's tensor names to the graph's own where they differ. A graph whose tensor is quantized
    is fed and read in real values: scale and zero point stand in its file. `backends` names those of the profiles that it was compiled for;
    none: any of its runtime."""

    name: str
    entry: str
    runtime: Literal["onnxruntime", "litert"]
    precision: Literal["fp32", "fp16", "int8"]
    tolerance: Annotated[float, msgspec.Meta(ge=0)]
    batch_rows: Annotated[int, msgspec.Meta(ge=0)] = 0
    tensors: dict[str, str] = {}
    backends: list[str] = []


class State(_Struct):
    """What a graph remembers: its output goes into its input at the next step, zeros at the first. Rows are then consecutive steps of one stream.
    `shape` is the whole tensor's."""

    input: str
    output: str
    dtype: DType
    shape: list[_Positive]


class Constant(_Struct):
    """A graph input that is always the same, such as a sample rate."""

    input: str
    dtype: DType
    shape: list[Annotated[int, msgspec.Meta(ge=0)]]
    values: list[float]

    def __post_init__(self) -> None:
        if len(self.values) > limits.MAX_CONSTANT_VALUES or prod(self.shape) != len(self.values):
            raise BadBundle(f"{len(self.values)} values of shape {self.shape}", field="constants", limit=limits.MAX_CONSTANT_VALUES)


class Limits(_Struct):
    """What one worker may use. Exceeding them on the known answers refuses the bundle."""

    memory_mb: _Positive = 1024
    latency_ms: float = 1000.0

    def __post_init__(self) -> None:
        if not 0 < self.latency_ms <= 1000 * limits.MAX_LATENCY_S:
            raise BadBundle(f"a latency limit of {self.latency_ms:g} ms", field="latency_ms", limit=1000 * limits.MAX_LATENCY_S)


class DriftPolicy(_Struct):
    """Test each closed window of `window_inputs`. `false_alarms` bounds the chance that a healthy device ever alarms on this bundle;
    `min_effect` is the least Kolmogorov-Smirnov distance that matters; `windows` consecutive windows must agree."""

    window_inputs: int = 50
    false_alarms: float = 0.01
    min_effect: float = 0.25
    windows: int = 2


class SamplingPolicy(_Struct):
    """What drift asks of a device: at most this many inputs, at most this many bytes."""

    max_items: int = 100
    max_bytes: int = 1_000_000


class RetrainPolicy(_Struct):
    """A job starts by itself when `min_labels` new labels of one drift are in. `approval` is whether its proposal waits for a person."""

    automatic: bool = True
    min_labels: int = 100
    approval: bool = False


class RolloutPolicy(_Struct):
    """Canaries first; the rest once every canary runs the bundle, has `gate_inputs` inputs on it and fires no drift on it."""

    canaries: int = 1
    gate_inputs: int = 50
    gate_refused_share: float = 0.05


class Policy(_Struct):
    drift: DriftPolicy = DriftPolicy()
    sampling: SamplingPolicy = SamplingPolicy()
    retrain: RetrainPolicy = RetrainPolicy()
    rollout: RolloutPolicy = RolloutPolicy()


class Lineage(_Struct, kw_only=True):
    """Where the model came from: digests, not paths. `run` is that of its training; `source` says what it was imported from."""

    task_sha256: str
    data_sha256: str
    seed: int
    code: str
    parent: str | None = None
    job: str | None = None
    metrics: dict[str, float] = {}
    run: str | msgspec.UnsetType = msgspec.UNSET
    source: str | msgspec.UnsetType = msgspec.UNSET


class Manifest(_Struct, kw_only=True):
    """`task` and `version` name the bundle; `profiles` lists the hardware profiles it fits, "any" for all.
    `entries` covers every file of the archive but the manifest itself."""

    schema: int = VERSION
    task: str
    version: str
    input: InputSpec
    output: OutputSpec
    states: list[State] = []
    constants: list[Constant] = []
    variants: list[Variant]
    known_answers: str
    reference: str
    card: str
    profiles: list[str]
    limits: Limits = Limits()
    policy: Policy = Policy()
    lineage: Lineage
    entries: dict[str, Entry]
