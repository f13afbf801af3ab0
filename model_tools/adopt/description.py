"""What a person says of a model that was made elsewhere. docs/adopting-models.md describes every key; input, output, states and constants are the
manifest's own (fleet_contract.manifest), except that a detection's `priors` is a file beside the description.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from fleet_contract.inputs import InputSpec
from fleet_contract.manifest import Constant, Limits, Policy, State
from fleet_contract.outputs import OutputSpec
from model_tools.errors import BadInput
from model_tools.task import check_bounds, check_name, check_profiles
from model_tools.toml_file import read_toml

_Text = Annotated[str, msgspec.Meta(min_length=1, max_length=1_000)]
_RUNTIMES = {".onnx": "onnxruntime", ".tflite": "litert"}


class _Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    pass


class Head(_Section):
    """`source` says where the models come from; it becomes the lineage's code."""

    name: _Text
    source: _Text
    description: str = ""
    profiles: Annotated[list[_Text], msgspec.Meta(min_length=1)] = msgspec.field(default_factory=lambda: ["any"])
    metrics: dict[str, float] = {}


class VariantFile(_Section):
    """`runtime` None: by the file's ending. `batch_rows` None: what the graph says."""

    file: _Text
    precision: Literal["fp32", "fp16", "int8"]
    name: str = ""
    runtime: Literal["onnxruntime", "litert"] | None = None
    batch_rows: Annotated[int, msgspec.Meta(ge=0)] | None = None
    tensors: dict[str, str] = {}
    backends: list[str] = []
    tolerance: Annotated[float, msgspec.Meta(gt=0)] | None = None

    @property
    def engine(self) -> str:
        """Raises BadInput when the ending tells none."""
        found = self.runtime or _RUNTIMES.get(Path(self.file).suffix)
        if found is None:
            known = " or ".join(_RUNTIMES)
            raise BadInput(f"{self.file!r} ends in neither {known}: say its runtime", field="variants.runtime", limit=known)
        return found


class Samples(_Section):
    """A .npz of arrays by tensor name, rows first, or a .npy for a model with one input."""

    file: _Text


class Description(_Section, kw_only=True):
    model: Head
    input: InputSpec
    output: OutputSpec
    states: list[State] = []
    constants: list[Constant] = []
    variants: Annotated[list[VariantFile], msgspec.Meta(min_length=1)]
    samples: Samples
    policy: Policy = Policy()
    limits: Limits = Limits()


@dataclass(frozen=True)
class Described:
    """A checked description. `sha256` is that of its bytes; `folder` is where its relative paths begin."""

    folder: Path
    sha256: str
    said: Description

    def read(self, file: str, field: str, max_bytes: int) -> bytes:
        """A file that the description names. Raises BadInput."""
        path = self.folder / file
        try:
            with path.open("rb") as opened:
                data = opened.read(max_bytes + 1)
        except OSError as error:
            raise BadInput(f"{field}: cannot read {path}: {error.strerror}", field=field) from error
        if len(data) > max_bytes:
            raise BadInput(f"{field}: {path} is larger than {max_bytes} bytes", field=field, limit=max_bytes)
        return data


def load_description(path: Path) -> Described:
    """Raises BadTask naming the key (as `section.key`) and what is allowed."""
    said, sha256 = read_toml(path, Description)
    check_name(said.model.name, "model.name")
    check_profiles(said.model.profiles, "model.profiles")
    check_bounds(said)
    names = [variant.name or variant.precision for variant in said.variants]
    if repeated := next((name for name in names if names.count(name) > 1), None):
        raise BadInput(f"two variants are called {repeated!r}: give them names", field="variants.name")
    for name in names:
        check_name(name, "variants.name")
    return Described(path.resolve().parent, sha256, said)
