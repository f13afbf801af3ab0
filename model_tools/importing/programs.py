"""Exported programs of torch (.pt2) as ONNX. The archive is put together anew from what cannot run code, before torch sees it: no pickles, no guards,
no operators but ATen's, no symbolic expression but arithmetic.
"""

import io
import json
import re
import zipfile
from collections.abc import Iterator
from pathlib import PurePath

from fleet_contract import limits
from model_tools.errors import BadInput, first_line

_KEPT = ("archive_format", "archive_version", "byteorder", "version", "serialization_id")
_SAMPLES = "data/sample_inputs/model.pt"
_PROGRAM = "models/model.json"
_CONFIGS = ("data/weights/model_weights_config.json", "data/constants/model_constants_config.json")
_TARGETS = re.compile(r"torch\.ops\.(aten|quantized_decomposed)\.\w+(\.\w+)?|_operator\.\w+|torch\.sym_\w+")
_EXPRESSION = re.compile(r"[\w\s+\-*/(),<>=']*")
_WORDS = frozenset(
    ("Symbol", "Integer", "Max", "Min", "Mod", "FloorDiv", "PythonMod", "CeilDiv", "positive", "integer", "nonnegative", "True")
)
_SYMBOL = re.compile(r"[su]\d+|zuf\d+|int_oo")
_PROBES = 8


def convert(data: bytes) -> tuple[bytes, list[str]]:
    """The ONNX bytes: `input` (batch, ...) to `logits`, checked against the program. Raises BadInput for an archive that holds pickles or other code,
    more than one tensor in or out, a fixed number of rows, and what does not export."""
    import torch

    from model_tools.export.graph import export_module, silence

    clean = harmless(data)
    with silence():
        try:
            exported = torch.export.load(io.BytesIO(clean))
        except (RuntimeError, ValueError, TypeError, KeyError, AttributeError, AssertionError, OSError) as error:
            raise BadInput(f"torch does not load the program: {first_line(error)}", field="model") from error
        program = exported.module(check_guards=False)
        probe = _probe(exported)
        # an exported program has no training mode to leave, and says so loudly
        program.train, program.eval = lambda mode=True: program, lambda: program
        try:
            return export_module(program, probe, "input"), ["torch.export program translated to ONNX"]
        except BadInput as error:
            raise BadInput(str(error), field="model") from error


def _probe(exported):
    import torch

    inputs = [node.meta["val"] for node in exported.graph.nodes if node.name in exported.graph_signature.user_inputs]
    outputs = exported.graph_signature.user_outputs
    if len(inputs) != 1 or len(outputs) != 1 or not isinstance(inputs[0], torch.Tensor) or inputs[0].dtype != torch.float32:
        raise BadInput(
            f"the program takes {len(inputs)} and gives {len(outputs)} tensors: one float32 each is wanted", field="model", limit=1
        )
    rows, *rest = inputs[0].shape
    if isinstance(rows, int) or not all(isinstance(axis, int) for axis in rest):
        raise BadInput(
            "the program must take any number of rows of one shape: export it with dynamic_shapes=({0: torch.export.Dim('batch')},)",
            field="model",
            limit="axis 0 open, the others fixed",
        )
    generator = torch.Generator().manual_seed(0)
    return torch.randn((_PROBES, *rest), generator=generator)


def harmless(data: bytes) -> bytes:
    """The same archive without sample inputs, which are pickled, and without guards, which are code. Raises BadInput for what cannot be left out."""
    made = io.BytesIO()
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive, zipfile.ZipFile(made, "w", zipfile.ZIP_STORED) as clean:
            for entry in archive.infolist():
                root, _, inner = entry.filename.partition("/")
                kept = _kept(archive, entry, inner)
                if kept is not None:
                    clean.writestr(f"{root}/{inner}", kept)
            clean.writestr(f"{root}/{_SAMPLES}", b"")
    except (zipfile.BadZipFile, ValueError, KeyError, RecursionError, EOFError) as error:
        raise BadInput(f"the archive is torn or no exported program: {error}", field="model") from error
    return made.getvalue()


def _kept(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, inner: str) -> bytes | None:
    if inner == _SAMPLES:
        return None
    if inner in _CONFIGS:
        return _config(_bounded(archive, entry))
    if inner == _PROGRAM:
        return _program(_bounded(archive, entry))
    payload = re.fullmatch(r"data/(weights/weight|constants/tensor)_\d+", inner)
    if payload or (PurePath(inner).name in _KEPT and inner.count("/") <= 1):
        return archive.read(entry)
    raise BadInput(f"the archive holds {inner!r}, which is no part of a plain program", field="model", limit="tensors and one program")


def _bounded(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> bytes:
    if entry.file_size > limits.MAX_PROGRAM_ENTRY_BYTES:
        raise BadInput(f"{entry.filename} has {entry.file_size} bytes", field="model", limit=limits.MAX_PROGRAM_ENTRY_BYTES)
    return archive.read(entry)


def _config(raw: bytes) -> bytes:
    config = json.loads(raw)
    for name, payload in config["config"].items():
        if payload.get("use_pickle") is not False or payload.get("tensor_meta") is None:
            raise BadInput(f"{name!r} is pickled inside the archive", field="model", limit="no pickles", code="pickle")
    return raw


def _program(raw: bytes) -> bytes:
    program = json.loads(raw)
    for part in _objects(program):
        called, shape = part.get("target"), part.get("expr_str", "")
        if "inputs" in part and called is not None and not _TARGETS.fullmatch(str(called)):
            raise BadInput(f"the program calls {called!r}: only ATen's operators are known", field="model", limit="torch.ops.aten")
        if not _is_arithmetic(str(shape)):
            raise BadInput(f"the program's shape {str(shape)[:80]!r} is no arithmetic", field="model", limit="expr_str")
    return json.dumps({**program, "guards_code": []}).encode()


def _objects(part: object) -> Iterator[dict]:
    """Every object within, however deep."""
    if isinstance(part, dict):
        yield part
    for value in part.values() if isinstance(part, dict) else part if isinstance(part, list) else ():
        yield from _objects(value)


def _is_arithmetic(text: str) -> bool:
    """Torch hands it to sympy, which evaluates it as Python."""
    words = re.findall(r"[A-Za-z_]\w*", text)
    return bool(_EXPRESSION.fullmatch(text)) and all(word in _WORDS or _SYMBOL.fullmatch(word) for word in words)
