"""Model files as commands name them: an .onnx or .tflite file, a bundle, or one variant of a bundle as BUNDLE:VARIANT."""

from dataclasses import dataclass
from pathlib import Path

from fleet_contract import graph, limits
from fleet_contract.bundle import Bundle
from fleet_contract.errors import BadModel
from model_tools.errors import BadInput

RUNTIMES = {".onnx": "onnxruntime", ".tflite": "litert"}
_BUNDLE = ".bundle"
_TFLITE_MARK = b"TFL3"
_MARK_AT = 4


@dataclass(frozen=True)
class ModelFile:
    """`runtime`: onnxruntime or litert."""

    runtime: str
    data: bytes


def read_models(given: str) -> dict[str, ModelFile]:
    """What a command's argument names, by a name for tables: all variants of a bundle that is given without one. Raises BadInput (no such file or
    variant, another ending, larger than a bundle may be) and BadModel (what fleet_contract.graph refuses), BadBundle."""
    path, variant = Path(given), None
    if not path.exists() and ":" in given:
        before, variant = given.rsplit(":", 1)
        path = Path(before)
    if not path.is_file():
        raise BadInput(f"there is no file {path}", field="model")
    if path.suffix == _BUNDLE:
        return _variants(path, variant)
    if path.suffix not in RUNTIMES or variant is not None:
        known = ", ".join((*RUNTIMES, _BUNDLE))
        raise BadInput(f"{given!r} is no model: its name ends in none of {known}", field="model", limit=known)
    return {path.name: checked(read_bounded(path), RUNTIMES[path.suffix])}


def read_model(given: str) -> tuple[str, ModelFile]:
    """The only one that the argument names, of a bundle the variant that devices should prefer. Raises as read_models."""
    return next(iter(read_models(given).items()))


def read_bounded(path: Path, max_bytes: int = limits.MAX_BUNDLE_BYTES) -> bytes:
    """Raises BadInput for a file that cannot be read or is larger."""
    try:
        with path.open("rb") as file:
            data = file.read(max_bytes + 1)
    except OSError as error:
        raise BadInput(f"cannot read {path}: {error.strerror}", field="model") from error
    if len(data) > max_bytes:
        raise BadInput(f"{path} is larger than {max_bytes} bytes", field="model", limit=max_bytes)
    return data


def checked(data: bytes, runtime: str) -> ModelFile:
    """Looked at from outside, before any engine opens it. Raises BadModel."""
    if runtime == "onnxruntime":
        graph.check(data)
    elif data[_MARK_AT : _MARK_AT + len(_TFLITE_MARK)] != _TFLITE_MARK:
        raise BadModel("no TFLite file: it lacks the mark TFL3", field="model")
    return ModelFile(runtime, data)


def _variants(path: Path, variant: str | None) -> dict[str, ModelFile]:
    bundle = Bundle(path)
    known = {one.name: one for one in bundle.manifest.variants}
    if variant is not None and variant not in known:
        raise BadInput(f"{path} has no variant {variant!r}; it has {', '.join(known)}", field="variant")
    chosen = [known[variant]] if variant is not None else known.values()
    return {f"{path.name}:{one.name}": checked(bundle.read(one.entry), one.runtime) for one in chosen}
