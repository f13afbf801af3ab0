"""Static quantization: QDQ, int8 activations and weights, weights per channel."""

import contextlib
import io
import logging
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static

from model_tools.errors import BadData, Failed

_ROWS = 32
_OPERATIONS = ["Conv", "Gemm", "MatMul", "Relu", "AveragePool", "MaxPool", "Reshape", "Flatten"]
"""Not Sub, Mul or Asinh: raw units of very different sizes share one scale there, and an int8 scale keeps the largest alone."""


def quantize_int8(onnx_bytes: bytes, rows: np.ndarray) -> bytes:
    """The int8 model's bytes: same model and rows, same bytes. `rows` float32 (rows, ...) are like what the model will see.

    Raises BadData without calibration rows, Failed when the result does not hold together.
    """
    if not len(rows):
        raise BadData("quantizing needs calibration rows", field="quantize.rows", limit=1)
    with tempfile.TemporaryDirectory() as folder, _silence():
        source, target = Path(folder, "fp32.onnx"), Path(folder, "int8.onnx")
        source.write_bytes(onnx_bytes)
        quantize_static(
            source,
            target,
            _Rows(onnx.load_from_string(onnx_bytes).graph.input[0].name, rows),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=_OPERATIONS,
            per_channel=True,
            activation_type=QuantType.QInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.MinMax,
        )
        model = onnx.load(target)
    return _finish(model)


class _Rows(CalibrationDataReader):
    def __init__(self, name: str, rows: np.ndarray) -> None:
        self._batches = iter([{name: rows[at : at + _ROWS]} for at in range(0, len(rows), _ROWS)])

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self._batches, None)


def _finish(model: onnx.ModelProto) -> bytes:
    del model.metadata_props[:]
    del model.graph.value_info[:]
    model.producer_name, model.producer_version = "edgefleet", ""
    if not any(node.op_type == "QuantizeLinear" for node in model.graph.node):
        raise Failed("nothing in the graph could be quantized", field="quantize")
    data = model.SerializeToString(deterministic=True)
    try:
        onnx.checker.check_model(data)
    except onnx.checker.ValidationError as error:
        raise Failed(f"the int8 graph is not valid: {error}", field="quantize") from error
    return data


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """The quantizer advises on the root logger; restore what it found."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        root.setLevel(level)
