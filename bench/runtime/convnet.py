"""An int8 conv net of 96x96 colour pictures: MobileNet v1 of a quarter's width, the net of MLPerf Tiny's visual wake words, with random weights."""

import tempfile
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from fleet_contract.inputs import ImageInput

SPEC = ImageInput(tensor="input", height=96, width=96, channels=3)
CLASSES = 2
_FIRST_CHANNELS = 8
_BLOCKS = ((16, 1), (32, 2), (32, 1), (64, 2), (64, 1), (128, 2), *[(128, 1)] * 5, (256, 2), (256, 1))
"""Channels and stride of each depthwise separable convolution."""


def int8_net() -> bytes:
    """Calibrated with noise, which is as good as its weights."""
    with tempfile.TemporaryDirectory(prefix="bench-net-") as folder:
        whole, ready, small = (Path(folder) / name for name in ("whole.onnx", "ready.onnx", "small.onnx"))
        whole.write_bytes(_float_net())
        quant_pre_process(str(whole), str(ready))
        kinds = {"activation_type": QuantType.QInt8, "weight_type": QuantType.QInt8}
        quantize_static(str(ready), str(small), _Noise(), quant_format=QuantFormat.QDQ, per_channel=True, **kinds)
        model = onnx.load(str(small))
    del model.metadata_props[:]
    return model.SerializeToString()


def pictures(count: int) -> np.ndarray:
    """uint8 (count, 3, 96, 96): blocks of noise, with light that differs from picture to picture."""
    rng = np.random.default_rng(5)
    coarse = rng.uniform(0, 255, (count, SPEC.channels, 12, 12)).astype(np.float32)
    light = rng.uniform(0.5, 1, (count, 1, 1, 1)).astype(np.float32)
    return (coarse * light).astype(np.uint8).repeat(8, axis=2).repeat(8, axis=3)


class _Noise(CalibrationDataReader):
    def __init__(self) -> None:
        self._left = iter([{"input": batch[None].astype(np.float32)} for batch in pictures(16)])

    def get_next(self) -> dict | None:
        return next(self._left, None)


def _float_net() -> bytes:
    rng = np.random.default_rng(3)
    weights = {"scale": np.float32(1 / 255)}
    nodes = [helper.make_node("Mul", ["input", "scale"], ["scaled"])]
    value = _convolve(nodes, weights, rng, "scaled", (3, _FIRST_CHANNELS), stride=2)
    channels = _FIRST_CHANNELS
    for wider, stride in _BLOCKS:
        value = _convolve(nodes, weights, rng, value, (channels, channels), stride=stride, groups=channels)
        value = _convolve(nodes, weights, rng, value, (channels, wider), size=1)
        channels = wider
    weights["head"] = rng.normal(0, 0.1, (channels, CLASSES)).astype(np.float32)
    nodes += [
        helper.make_node("GlobalAveragePool", [value], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("MatMul", ["flat", "head"], ["logits"]),
    ]
    made = helper.make_graph(
        nodes,
        "mobilenet",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["n", SPEC.channels, SPEC.height, SPEC.width])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", CLASSES])],
        [numpy_helper.from_array(np.asarray(weight), name) for name, weight in weights.items()],
    )
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()


def _convolve(
    nodes: list,
    weights: dict,
    rng: np.random.Generator,
    value: str,
    channels: tuple[int, int],
    *,
    size: int = 3,
    stride: int = 1,
    groups: int = 1,
) -> str:
    """Convolution, bias and ReLU; the name of what comes out."""
    name, (before, after) = f"c{len(nodes)}", channels
    fan_in = before // groups * size * size
    weights[f"{name}_w"] = rng.normal(0, (2 / fan_in) ** 0.5, (after, before // groups, size, size)).astype(np.float32)
    weights[f"{name}_b"] = rng.normal(0, 0.05, after).astype(np.float32)
    pads, strides = [size // 2] * 4, [stride] * 2
    inputs = [value, f"{name}_w", f"{name}_b"]
    nodes.append(helper.make_node("Conv", inputs, [f"{name}_sum"], kernel_shape=[size] * 2, pads=pads, strides=strides, group=groups))
    nodes.append(helper.make_node("Relu", [f"{name}_sum"], [f"{name}_out"]))
    return f"{name}_out"
