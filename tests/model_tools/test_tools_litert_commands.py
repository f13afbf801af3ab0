"""TFLite through the commands, and in a bundle that a device runs."""

from pathlib import Path

import msgspec
import numpy as np
import pytest

from tests.fakes.onnx_graphs import graph, values
from tests.fakes.real_tasks import wine

pytest.importorskip("ai_edge_quantizer", reason="the extra `tflite` is not installed")

from model_tools import cli, workbench
from model_tools.running import answers
from model_tools.task import load_task


@pytest.fixture
def task(tmp_path: Path) -> Path:
    return wine(tmp_path)


@pytest.fixture
def fp32(task: Path) -> Path:
    """Normalised by the task's own rows, as a trained network is."""
    rows = workbench.read_splits(load_task(task)).train.inputs
    made = graph(
        "rows, 13",
        "s = Sub(input, m) n = Div(s, d) a = Asinh(n) h = Gemm(a, w1) r = Relu(h) logits = Gemm(r, w2)",
        m=rows.mean(axis=0, keepdims=True),
        d=rows.std(axis=0, keepdims=True),
        w1=values(13, 64),
        w2=values(64, 3, seed=1),
    )
    file = task.parent / "fp32.onnx"
    file.write_bytes(made)
    return file


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as ended:
        cli.main([str(argument) for argument in arguments])
    return int(ended.value.code or 0)


def test_an_onnx_model_is_exported_and_quantized(task: Path, fp32: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plain, small = task.parent / "fp32.tflite", task.parent / "int8.tflite"
    assert run("export", task, fp32, "--out", plain, "--json") == 0
    assert msgspec.json.decode(capsys.readouterr().out)["format"] == "tflite"
    assert run("quantize", task, plain, "--out", small, "--json") == 0
    told = msgspec.json.decode(capsys.readouterr().out)
    assert told["recipe"].startswith("int8")
    rows = workbench.read_splits(load_task(task)).test.inputs
    exact, near = (answers("litert", file.read_bytes(), rows) for file in (plain, small))
    assert np.allclose(exact, answers("onnxruntime", fp32.read_bytes(), rows), atol=1e-4)
    assert (exact.argmax(axis=1) == near.argmax(axis=1)).mean() >= 0.95


@pytest.mark.parametrize(
    ("name", "data"),
    [
        pytest.param("torn.onnx", b"\x08\x0a\x12", id="torn"),
        pytest.param("pickle.onnx", b"\x80\x04}.", id="pickle"),
        pytest.param("unknown.onnx", graph("rows, 13", "logits = Cosh(input)"), id="operator"),
        pytest.param("other.onnx", graph("rows, 12", "logits = Relu(input)"), id="columns"),
    ],
)
def test_what_cannot_be_exported_leaves_nothing(name: str, data: bytes, task: Path) -> None:
    model, out = task.parent / name, task.parent / "out.tflite"
    model.write_bytes(data)
    assert run("export", task, model, "--out", out) == 2
    assert not out.exists()


def test_a_checkpoint_alone_becomes_onnx(task: Path, fp32: Path) -> None:
    assert run("export", task, fp32, "--out", task.parent / "again.onnx") == 2
