"""From a file of elsewhere to a checked model, and the record of where it came from."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from fleet_contract import graph, limits
from model_tools.adopt.isolation import Bounds, isolated
from model_tools.errors import BadInput
from model_tools.evaluate.timing import made_up
from model_tools.graphs import open_graph
from model_tools.importing import estimators, onnx_graphs, programs
from model_tools.importing.formats import Format, format_of
from model_tools.model_files import RUNTIMES, read_bounded
from model_tools.storage import write_whole

_PROBES = 2
_RUNTIME_OF: dict[Format, str] = {"onnx": "onnxruntime", "pt2": "onnxruntime", "skops": "onnxruntime", "tflite": "litert"}
SUFFIX = ".json"


class Record(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Beside an imported model: what it was (`source_sha256` is of the file as it came), what was changed, and what it takes and gives now.
    `sha256` is of the model's own bytes. `classes` are a classifier's, in the order of its logits, where the file said them."""

    format: Format
    source: str
    source_sha256: str
    sha256: str
    precision: str
    inputs: dict[str, list[int]]
    outputs: dict[str, list[int]]
    classes: list[str] = []
    changes: list[str] = []
    warnings: list[str] = []

    @property
    def origin(self) -> str:
        """For a bundle's lineage."""
        return f"{self.format} sha256:{self.source_sha256}"


@dataclass(frozen=True)
class Imported:
    """`runtime`: onnxruntime, or litert of a TFLite file, which stays one."""

    runtime: str
    data: bytes
    record: Record


def import_model(
    path: Path, *, trusted: Sequence[str] = (), classes: Sequence[str] = (), logits: bool = False, bounds: Bounds = Bounds()
) -> Imported:
    """A model file made elsewhere as the workbench takes it: ONNX, TFLite, a program of torch.export (.pt2) or an estimator of scikit-learn (.skops).

    It is opened, converted and run in a child process within `bounds`; nothing is unpickled. `trusted` are types that a .skops file may hold
    beside scikit-learn's; `classes` is the order that a classifier of scikit-learn is to answer in; `logits` leaves a softmax at the end out.
    Raises BadInput (a pickle, an unknown or torn file, operators that no engine has, what does not convert) and BadModel (weights in
    other files, unknown operator domains).
    """
    data = read_bounded(path)
    kind = format_of(path.name, data)
    if kind == "onnx":
        graph.check(data)
    with isolated(bounds) as child:
        made, known, changes = child.ask(path.name, _convert, kind, data, tuple(trusted), tuple(classes), logits)
        runtime = _RUNTIME_OF[kind]
        if runtime == "onnxruntime":
            graph.check(made)
        inputs, outputs, warnings = child.ask(path.name, _look, runtime, made)
        precision = child.ask(path.name, _precision, kind, made)
    source, sha256 = (hashlib.sha256(one).hexdigest() for one in (data, made))
    return Imported(runtime, made, Record(kind, path.name, source, sha256, precision, inputs, outputs, known, changes, warnings))


def write_imported(imported: Imported, out: Path) -> Path:
    """The model in `out`, and its record beside it. Raises BadInput when the ending is not that of its runtime, and Failed."""
    endings = [ending for ending, runtime in RUNTIMES.items() if runtime == imported.runtime]
    if out.suffix not in endings:
        raise BadInput(f"a {imported.record.format} model is written as {endings[0]}, not {out.suffix!r}", field="out", limit=endings[0])
    beside = out.with_name(out.name + SUFFIX)
    write_whole(beside, msgspec.json.format(msgspec.json.encode(imported.record), indent=1) + b"\n")
    write_whole(out, imported.data)
    return beside


def origin_of(model: Path) -> str | None:
    """What the record beside a model file says of it; None where there is none, or it speaks of other bytes."""
    beside = model.with_name(model.name + SUFFIX)
    if not beside.is_file() or beside.stat().st_size > limits.MAX_IMPORT_RECORD_BYTES:
        return None
    try:
        record = msgspec.json.decode(beside.read_bytes(), type=Record)
    except msgspec.MsgspecError:
        return None
    return record.origin if record.sha256 == hashlib.sha256(model.read_bytes()).hexdigest() else None


def check_against(imported: Imported, rows: np.ndarray, answers: int, bounds: Bounds = Bounds()) -> None:
    """Raises BadInput unless the model answers these rows of a task with so many figures each."""
    from model_tools import running

    with isolated(bounds) as child:
        said = child.ask(imported.record.source, running.answers, imported.runtime, imported.data, rows)
    if said.shape != (len(rows), answers):
        raise BadInput(
            f"the model answers {list(said.shape)} for {len(rows)} rows of the task, which needs {answers} figures each",
            field="output",
            limit=answers,
        )


def _convert(kind: Format, data: bytes, trusted: Sequence[str], classes: Sequence[str], logits: bool) -> tuple[bytes, list[str], list[str]]:
    """In the child: the model's bytes, its classes where the file says them, what was changed."""
    match kind:
        case "onnx":
            made, changes = onnx_graphs.normalise(data, logits=logits)
            return made, [], changes
        case "pt2":
            made, changes = programs.convert(data)
            return made, [], changes
        case "skops":
            return estimators.convert(data, trusted, classes)
        case "tflite":
            return data, [], []


def _look(runtime: str, data: bytes) -> tuple[dict[str, list[int]], dict[str, list[int]], list[str]]:
    """In the child: inputs, outputs, and what could not be tried. A model with a single open axis has to run on made-up rows."""
    opened = open_graph(runtime, data)
    inputs, outputs = ({name: list(tensor.shape) for name, tensor in tensors.items()} for tensors in (opened.inputs, opened.outputs))
    try:
        opened.run(made_up(opened.inputs, _PROBES), list(outputs))
    except BadInput as error:
        if len(inputs) == 1 and all(axis > 0 for axis in next(iter(inputs.values()))[1:]):
            raise
        return inputs, outputs, [f"loaded, but not tried: made-up inputs do not fit ({str(error)[:200]})"]
    return inputs, outputs, []


def _precision(kind: Format, data: bytes) -> str:
    if kind == "tflite":
        return "int8" if any(tensor.scale for tensor in open_graph("litert", data).inputs.values()) else "fp32"
    return onnx_graphs.precision_of(data)
