"""What kind of model file this is, by its bytes and its ending; and which kinds are never opened."""

import io
import zipfile
from pathlib import PurePath
from typing import Literal

from model_tools.errors import BadInput

Format = Literal["onnx", "tflite", "pt2", "skops"]
_ENDINGS: dict[str, Format] = {".onnx": "onnx", ".tflite": "tflite", ".pt2": "pt2", ".skops": "skops"}
_PICKLES = (".pkl", ".pickle", ".joblib", ".pt", ".pth", ".ckpt", ".sav")
_PICKLE_MARK = b"\x80"
_NEWEST_PROTOCOL = 5
_ZIP_MARK = b"PK\x03\x04"
_PT2_FORMAT = "archive_format"
_SKOPS_SCHEMA = "schema.json"
_TFLITE_MARK, _MARK_AT = b"TFL3", 4
_WAYS_OUT = "export it: torch.export.save (.pt2), skops.io.dump (.skops) or to ONNX"


def format_of(name: str, data: bytes) -> Format:
    """By what the bytes are where they tell, else by the ending of `name`. Raises BadInput for a pickle, which would run what its author wrote, and
    for anything unknown."""
    ending = PurePath(name).suffix.lower()
    if _is_pickle(data) or ending in _PICKLES:
        raise BadInput(
            f"{name} is a pickle, which runs code when it is loaded: {_WAYS_OUT}", field="model", limit="no pickles", code="pickle"
        )
    if data.startswith(_ZIP_MARK):
        return _zipped(name, data)
    if data[_MARK_AT : _MARK_AT + len(_TFLITE_MARK)] == _TFLITE_MARK:
        return "tflite"
    if ending not in (".onnx", ".tflite"):
        raise BadInput(f"{name} is no model that is known: {', '.join(_ENDINGS)}", field="model", limit=", ".join(_ENDINGS))
    return _ENDINGS[ending]


def _is_pickle(data: bytes) -> bool:
    return data[:1] == _PICKLE_MARK and len(data) > 1 and data[1] <= _NEWEST_PROTOCOL


def _zipped(name: str, data: bytes) -> Format:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            names = [PurePath(entry).name for entry in archive.namelist()]
    except zipfile.BadZipFile as error:
        raise BadInput(f"{name} is torn: {error}", field="model") from error
    if _PT2_FORMAT in names:
        return "pt2"
    if _SKOPS_SCHEMA in names:
        return "skops"
    if any(entry.endswith(".pkl") for entry in names):
        raise BadInput(
            f"{name} holds a pickle, which runs code when it is loaded: {_WAYS_OUT}", field="model", limit="no pickles", code="pickle"
        )
    raise BadInput(f"{name} is an archive of no model that is known", field="model", limit=", ".join(_ENDINGS))
