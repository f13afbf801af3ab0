"""Real models of others, in a folder beside the repository (EDGEFLEET_CORPUS), and what they must answer to inputs that a formula gives.

`known_outputs.json` holds a few values of each output, made once by engines' reference code: LiteRT's kernels of the BUILTIN_REF resolver, and
ONNX Runtime without graph optimizations. `python -m tests.fakes.corpus` makes them again.
"""

import json
import os
import wave
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tests.architecture.sources import ROOT

KNOWN = Path(__file__).with_name("known_outputs.json")
VOICE_SAMPLES = 512
"""Of 16 kHz sound, that silero VAD takes at once; it wants the 64 before them as well."""
_CONTEXT_SAMPLES = 64
_PICKED = 40


@dataclass(frozen=True)
class Model:
    """`fed` and `told` are the graph's names; `batch_rows` as in a manifest. `tolerance` is for the optimized kernels of any backend."""

    file: str
    fed: str
    told: tuple[str, ...]
    shape: tuple[int, ...]
    low: float
    high: float
    tolerance: float
    batch_rows: int = 0

    @property
    def runtime(self) -> str:
        return "litert" if self.file.endswith(".tflite") else "onnxruntime"

    @property
    def name(self) -> str:
        return Path(self.file).stem

    def read(self) -> bytes:
        return (folder() / self.file).read_bytes()

    def rows(self, count: int = 3) -> np.ndarray:
        """Float32, spread over [low, high], the same on every machine."""
        phase = np.arange(count * int(np.prod(self.shape)), dtype=np.float64)
        share = 0.5 + 0.5 * np.sin(phase * 0.7548776662) * np.cos(phase * 0.0191)
        return (self.low + (self.high - self.low) * share).astype(np.float32).reshape(count, *self.shape)


def _tiny(file: str, fed: str, told: str, shape: tuple[int, ...], low: float, high: float, tolerance: float) -> Model:
    return Model(f"mlperf_tiny/models/{file}.tflite", fed, (told,), shape, low, high, tolerance)


def _faces(kind: str) -> Model:
    return Model(f"ultraface_onnx/version-{kind}-320.onnx", "input", ("scores", "boxes"), (3, 240, 320), -1, 1, 1e-4, batch_rows=1)


MODELS = [
    _tiny("pretrainedResnet", "input_1", "Identity", (32, 32, 3), 0, 255, 1e-4),
    _tiny(
        "pretrainedResnet_quant", "input_1_int8", "Identity_int8", (32, 32, 3), 0, 255, 0.15
    ),  # LiteRT's own kernel sets differ by 0.13 on it
    _tiny("pretrainedResnet_large_float", "input_5", "dense_4", (32, 32, 3), 0, 255, 1e-4),
    _tiny("pretrainedResnet_large_int8", "input_5", "dense_4", (32, 32, 3), 0, 255, 0.01),
    _tiny("vww_96_float", "input_1", "Identity", (96, 96, 3), 0, 1, 1e-4),
    _tiny("vww_96_int8", "input_1_int8", "Identity_int8", (96, 96, 3), 0, 1, 0.01),
    _tiny("kws_ref_model_float32", "input_1", "Identity", (49, 10, 1), -120, 20, 1e-4),
    _tiny("kws_ref_model", "input_1", "Identity", (49, 10, 1), -120, 20, 0.01),
    _tiny("str_ww_ref_model", "input_1", "dense", (30, 1, 40), 0, 0.9, 0.01),
    _tiny("ad01_fp32", "input_1", "Identity", (640,), -60, 10, 1e-3),
    _tiny("ad01_int8", "input_1", "Identity", (640,), -60, 10, 0.4),
    _faces("slim"),
    _faces("RFB"),
]
VOICES = [Model(f"silero_vad/{name}.onnx", "input", ("output", "stateN"), (), 0, 0, 1e-4) for name in ("silero_vad", "silero_vad_16k_op15")]


def folder() -> Path:
    return Path(os.environ.get("EDGEFLEET_CORPUS", ROOT.parent / "shared/data"))


def missing() -> str | None:
    """Why there is no corpus here."""
    return None if (folder() / "mlperf_tiny").is_dir() else f"no corpus of models in {folder()} (EDGEFLEET_CORPUS)"


def known() -> dict[str, dict[str, list[float]]]:
    return json.loads(KNOWN.read_text())


def picked(values: np.ndarray) -> list[float]:
    """So few that they can be written down: evenly spread ones, and the mean of all."""
    flat = values.astype(np.float64).ravel()
    return [*flat[np.linspace(0, flat.size - 1, _PICKED).astype(int)].tolist(), float(flat.mean())]


def voice_steps(count: int) -> Iterator[np.ndarray]:
    """Float32 (1, 64 + 512) of the recording that silero VAD comes with, from its 5th second on."""
    with wave.open(str(folder() / "silero_vad/test.wav")) as sound:
        sound.setpos(5 * sound.getframerate())
        samples = np.frombuffer(sound.readframes((count + 1) * VOICE_SAMPLES), "<i2").astype(np.float32) / 32768
    for at in range(VOICE_SAMPLES, (count + 1) * VOICE_SAMPLES, VOICE_SAMPLES):
        yield samples[None, at - _CONTEXT_SAMPLES : at + VOICE_SAMPLES]


def _reference_tflite(model: Model) -> dict[str, np.ndarray]:
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    interpreter = Interpreter(model_content=model.read(), experimental_op_resolver_type=OpResolverType.BUILTIN_REF)
    interpreter.allocate_tensors()
    (given,), (told,) = interpreter.get_input_details(), interpreter.get_output_details()
    answers = []
    for row in model.rows():
        interpreter.set_tensor(given["index"], _stored(row[None], given))
        interpreter.invoke()
        answer = interpreter.get_tensor(told["index"])
        scale, zero_point = told["quantization"]
        answers.append((answer.astype(np.float64) - zero_point) * scale if scale else answer)
    return {model.told[0]: np.concatenate(answers)}


def _stored(values: np.ndarray, told: dict) -> np.ndarray:
    scale, zero_point = told["quantization"]
    if not scale:
        return values
    bounds = np.iinfo(told["dtype"])
    return np.clip(np.rint(values / np.float32(scale)) + zero_point, bounds.min, bounds.max).astype(told["dtype"])


def _plain_session(model: Model):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(model.read(), options, providers=["CPUExecutionProvider"])


def _reference_onnx(model: Model) -> dict[str, np.ndarray]:
    session = _plain_session(model)
    answers = [session.run([*model.told], {model.fed: row[None]}) for row in model.rows()]
    return {name: np.concatenate([answer[at] for answer in answers]) for at, name in enumerate(model.told)}


def _reference_voice(model: Model) -> dict[str, np.ndarray]:
    session, state, heard = _plain_session(model), np.zeros((2, 1, 128), np.float32), []
    for step in voice_steps(20):
        output, state = session.run([*model.told], {model.fed: step, "state": state, "sr": np.array(16000, np.int64)})
        heard.append(output)
    return {"output": np.concatenate(heard), "stateN": state}


def _main() -> None:
    made = {m.name: (_reference_tflite if m.runtime == "litert" else _reference_onnx)(m) for m in MODELS}
    made |= {m.name: _reference_voice(m) for m in VOICES}
    rounded = {name: {k: [float(f"{v:.6g}") for v in picked(values)] for k, values in told.items()} for name, told in made.items()}
    KNOWN.write_text(json.dumps(rounded, indent=1) + "\n")


if __name__ == "__main__":
    _main()
