"""Descriptions of real models of others (see corpus), as a person would write them, and bundles made from them. Inputs are invented where there
are none beside the model: then int8 strays further than the rule allows, and the description says how far it may."""

import wave
from collections.abc import Callable
from pathlib import Path

import numpy as np

from model_tools.adopt.adoption import adopt
from model_tools.adopt.description import load_description
from tests.fakes import corpus

_VOICE_VALUES = 576
_VOICE_STRIDE = 512


def make(name: str, place: Path) -> bytes:
    """The bundle of one of NAMES, from files in `place`."""
    return adopt(load_description(describe(name, place)), "1.0")


def describe(name: str, place: Path) -> Path:
    """Writes the description and the samples of one of NAMES; the model files stay where they are."""
    text, samples = NAMES[name]()
    np.savez(place / f"{name}.npz", **samples)
    path = place / f"{name}.toml"
    path.write_text(text.replace("CORPUS", str(corpus.folder())) + f'\n[samples]\nfile = "{name}.npz"\n')
    return path


def _keywords() -> tuple[str, dict[str, np.ndarray]]:
    text = """
    [model]
    name = "keywords"
    source = "MLPerf Tiny keyword spotting, mlcommons/tiny @1afd2c9"
    [input]
    type = "tensors"
    tensors = [{name = "input_1", dtype = "float32", shape = [-1, 49, 10, 1]}]
    [output]
    type = "classification"
    tensor = "Identity"
    activation = "none"
    classes = ["down", "go", "left", "no", "off", "on", "right", "stop", "up", "yes", "silence", "unknown"]
    top_k = 3
    [[variants]]
    file = "CORPUS/mlperf_tiny/models/kws_ref_model.tflite"
    precision = "int8"
    tolerance = 0.1
    [[variants]]
    file = "CORPUS/mlperf_tiny/models/kws_ref_model_float32.tflite"
    precision = "fp32"
    tolerance = 0.25
    """
    return text, {"input_1": _smooth((40, 49, 10, 1), -100, 25)}


def _machines() -> tuple[str, dict[str, np.ndarray]]:
    text = """
    [model]
    name = "machines"
    source = "MLPerf Tiny anomaly detection, mlcommons/tiny @1afd2c9"
    [input]
    type = "window"
    tensor = "input_1"
    columns = ["decibels"]
    low = [-200.0]
    high = [100.0]
    length = 640
    stride = 128
    flat = true
    [output]
    type = "anomaly"
    tensor = "Identity"
    threshold = 20.0
    score = "reconstruction"
    [[variants]]
    file = "CORPUS/mlperf_tiny/models/ad01_int8.tflite"
    precision = "int8"
    [[variants]]
    file = "CORPUS/mlperf_tiny/models/ad01_fp32.tflite"
    precision = "fp32"
    """
    return text, {"input_1": _smooth((40, 640), -60, 0)}


def _persons() -> tuple[str, dict[str, np.ndarray]]:
    text = """
    [model]
    name = "persons"
    source = "MLPerf Tiny visual wake words, mlcommons/tiny @1afd2c9"
    [input]
    type = "image"
    tensor = "input_1"
    height = 96
    width = 96
    channels = 3
    layout = "nhwc"
    scale = 0.00392156862745098
    [output]
    type = "classification"
    tensor = "Identity"
    activation = "none"
    classes = ["nobody", "person"]
    [[variants]]
    file = "CORPUS/mlperf_tiny/models/vww_96_int8.tflite"
    precision = "int8"
    tensors = {input_1 = "input_1_int8", Identity = "Identity_int8"}
    tolerance = 0.1
    [[variants]]
    file = "CORPUS/mlperf_tiny/models/vww_96_float.tflite"
    precision = "fp32"
    """
    return text, {"input_1": _tiles(16, 96, 8)}


def _voice() -> tuple[str, dict[str, np.ndarray]]:
    text = """
    [model]
    name = "voice"
    source = "silero VAD, snakers4/silero-vad @806dcba"
    [input]
    type = "window"
    tensor = "input"
    columns = ["sound"]
    low = [-1.0]
    high = [1.0]
    length = 576
    stride = 512
    flat = true
    [output]
    type = "threshold"
    tensor = "output"
    labels = ["silence", "speech"]
    activation = "none"
    [[states]]
    input = "state"
    output = "stateN"
    dtype = "float32"
    shape = [2, 1, 128]
    [[constants]]
    input = "sr"
    dtype = "int64"
    shape = []
    values = [16000.0]
    [[variants]]
    file = "CORPUS/silero_vad/silero_vad.onnx"
    precision = "fp32"
    """
    with wave.open(str(corpus.folder() / "silero_vad" / "test.wav")) as file:
        sound = np.frombuffer(file.readframes(file.getnframes()), "<i2").astype(np.float32) / 2**15
    starts = range(0, 200 * _VOICE_STRIDE, _VOICE_STRIDE)
    return text, {"input": np.stack([sound[start : start + _VOICE_VALUES] for start in starts])}


def _faces() -> tuple[str, dict[str, np.ndarray]]:
    text = """
    [model]
    name = "faces"
    source = "Ultra-Light-Fast-Generic-Face-Detector-1MB @dffddda"
    [input]
    type = "image"
    tensor = "input"
    height = 240
    width = 320
    channels = 3
    scale = 0.0078125
    offset = -0.9921875
    [output]
    type = "detection"
    boxes = "boxes"
    scores = "scores"
    classes = ["background", "face"]
    background = true
    score_threshold = 0.6
    iou_threshold = 0.3
    [[variants]]
    file = "CORPUS/ultraface_onnx/version-slim-320.onnx"
    precision = "fp32"
    """
    return text, {"input": np.moveaxis(_pictures(6, 240, 320), 3, 1)}


def _smooth(shape: tuple[int, ...], low: float, high: float) -> np.ndarray:
    """A slow random walk along the first inner axis, spread over [low, high]."""
    steps = np.random.default_rng(3).normal(size=shape).cumsum(axis=1)
    least, most = steps.min(), steps.max()
    return (low + (high - low) * (steps - least) / (most - least)).astype(np.float32)


def _tiles(rows: int, side: int, tile: int) -> np.ndarray:
    """Whole pixel values, (rows, side, side, 3)."""
    tiles = np.random.default_rng(1).integers(0, 256, (rows, side // tile, side // tile, 3))
    return np.kron(tiles, np.ones((1, tile, tile, 1))).astype(np.float32)


def _pictures(rows: int, height: int, width: int) -> np.ndarray:
    """Soft discs on gradients, whole pixel values, (rows, height, width, 3)."""
    random = np.random.default_rng(5)
    y, x = np.mgrid[0:height, 0:width].astype(np.float64) / height
    made = []
    for _ in range(rows):
        cx, cy, radius = random.uniform((0.3, 0.3, 0.1), (0.7, 0.7, 0.4))
        disc = np.exp(-((((x - cx) ** 2 + (y - cy) ** 2) / radius**2) ** 3))
        picture = disc[..., None] * random.uniform(60, 250, 3) + (x + y)[..., None] * random.uniform(0, 60, 3)
        made.append(np.clip(np.round(picture), 0, 255))
    return np.stack(made).astype(np.float32)


NAMES: dict[str, Callable[[], tuple[str, dict[str, np.ndarray]]]] = {
    "keywords": _keywords,
    "machines": _machines,
    "persons": _persons,
    "voice": _voice,
    "faces": _faces,
}
