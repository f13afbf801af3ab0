"""Who quantizes: ours, ONNX Runtime's defaults, NNCF in an environment of its own; and what each model then does."""

import contextlib
import io
import logging
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
from onnxruntime.quantization import CalibrationDataReader, quantize_static

from bench.quantize.models import Case
from bench.serving.environments import NotInstalled
from model_tools.evaluate.noise import sqnr_db
from model_tools.model_files import ModelFile
from model_tools.quantize.calibration import calibrate
from model_tools.quantize.int8 import best_int8
from model_tools.quantize.recipe import Quantized, Recipe
from model_tools.quantize.search import compare_speed
from model_tools.running import logits

_SLOWER = 1.05
_PEER_S = 1_800.0
_NNCF = ("nncf>=3.0,<4", "onnx", "onnxruntime", "setuptools")


@dataclass(frozen=True)
class Line:
    """One model of one case. `said`: what the workbench says of its speed."""

    case: Case
    maker: str
    accuracy: float
    agreement: float
    sqnr_db: float
    bytes: int
    latency_us: float
    said: str


def make(case: Case, cache: Path | None, python: str) -> tuple[dict[str, bytes], list[str]]:
    """By maker, the float model first; and what there is to say."""
    ours = best_int8(calibrate(case.fp32, case.calibration), None, 0.0, None)
    made = {"float": case.fp32, "ours": ours.model, "onnxruntime defaults": _plain(case)}
    notes = [f"ours: {ours.recipe.title}", *(words.partition(" reach")[0] for words in ours.warnings)]
    if cache is not None:
        try:
            made["nncf"] = _nncf(case, cache, python)
        except NotInstalled as error:
            notes.append(f"nncf was not measured: {error}")
    return made, notes


def measure(case: Case, made: Mapping[str, bytes], rounds: int) -> Iterator[Line]:
    """On the rows that nobody has seen."""
    answers = {maker: logits(model, case.test) for maker, model in made.items()}
    latencies = _latencies(case, made, rounds)
    plain = answers["float"]
    said = _said(case, made["ours"])
    for maker, told in answers.items():
        right = float((told.argmax(axis=1) == case.labels).mean())
        agreed = float((told.argmax(axis=1) == plain.argmax(axis=1)).mean())
        words = said if maker == "ours" else ""
        yield Line(case, maker, right, agreed, sqnr_db(plain, told), len(made[maker]), latencies[maker], words)


def is_slower(line: Line, plain: Line) -> bool:
    return line.latency_us > _SLOWER * plain.latency_us


def _said(case: Case, ours: bytes) -> str:
    """What `model-tools quantize` tells of this model's speed, by its own measurement."""
    plain, made = ModelFile("onnxruntime", case.fp32), Quantized(Recipe("int8"), ours)
    return "; ".join(compare_speed(plain, made, case.test[:1]).warnings)


def _latencies(case: Case, made: Mapping[str, bytes], rounds: int) -> dict[str, float]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    sessions = {maker: onnxruntime.InferenceSession(model, options) for maker, model in made.items()}
    spent: dict[str, list[int]] = {maker: [] for maker in made}
    for _ in range(rounds):
        for maker, session in sessions.items():
            begun = time.perf_counter_ns()
            session.run(None, {"input": case.test[:1]})
            spent[maker].append(time.perf_counter_ns() - begun)
    return {maker: statistics.median(times) / 1e3 for maker, times in spent.items()}


class _Rows(CalibrationDataReader):
    def __init__(self, rows: np.ndarray) -> None:
        self._left = iter(rows[:, None])

    def get_next(self) -> dict[str, np.ndarray] | None:
        row = next(self._left, None)
        return None if row is None else {"input": row}


def _plain(case: Case) -> bytes:
    """As its documentation begins: quantize_static with no option."""
    logging.getLogger().setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        source, target = Path(folder, "float.onnx"), Path(folder, "int8.onnx")
        source.write_bytes(case.fp32)
        quantize_static(source, target, _Rows(case.calibration))
        return target.read_bytes()


def _nncf(case: Case, cache: Path, python: str) -> bytes:
    """Its defaults, too. Raises NotInstalled."""
    found = _environment(cache / "nncf", python)
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "float.onnx").write_bytes(case.fp32)
        np.save(Path(folder, "rows.npy"), case.calibration)
        _run([str(found), str(Path(__file__).with_name("nncf_peer.py")), folder])
        return Path(folder, "int8.onnx").read_bytes()


def _environment(home: Path, python: str) -> Path:
    found, done = home / "bin" / "python", home / ".installed"
    if not done.exists():
        _run([python or sys.executable, "-m", "venv", str(home)])
        _run([str(found), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *_NNCF])
        done.touch()
    return found


def _run(command: list[str]) -> None:
    try:
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=_PEER_S)
    except (OSError, subprocess.SubprocessError) as error:
        told = (getattr(error, "stderr", None) or str(error)).strip()
        raise NotInstalled(told.splitlines()[-1] if told else "it fails") from error
