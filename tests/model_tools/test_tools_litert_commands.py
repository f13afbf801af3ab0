"""TFLite through the commands, and in a bundle that a device runs."""

from pathlib import Path

import msgspec
import numpy as np
import pytest

from tests.fakes.onnx_graphs import graph
from tests.fakes.real_tasks import wine

pytest.importorskip("ai_edge_quantizer", reason="the extra `tflite` is not installed")

from edge_agent.clock import SystemClock
from edge_agent.inference.host import InferenceHost
from firmware_profiles import catalog
from fleet_contract.bundle import Bundle
from model_tools import cli, workbench
from model_tools.running import answers
from model_tools.task import load_task


@pytest.fixture
def task(tmp_path: Path) -> Path:
    return wine(tmp_path)


@pytest.fixture
def fp32(task: Path) -> Path:
    """The best linear guess, through a layer that a network would have, normalised by the task's own rows."""
    rows = workbench.read_splits(load_task(task)).train
    mean, deviation = rows.inputs.mean(axis=0, keepdims=True), rows.inputs.std(axis=0, keepdims=True)
    known = np.c_[(rows.inputs - mean) / deviation, np.ones(len(rows))]
    guess = np.linalg.lstsq(known, 6 * np.eye(3)[rows.labels], rcond=None)[0].astype(np.float32)
    both_signs = np.concatenate([np.eye(13), -np.eye(13)], axis=1).astype(np.float32)
    made = graph(
        "rows, 13",
        "s = Sub(input, m) n = Div(s, d) h = Gemm(n, w1) r = Relu(h) logits = Gemm(r, w2, b)",
        m=mean,
        d=deviation,
        w1=both_signs,
        w2=np.concatenate([guess[:-1], -guess[:-1]]),
        b=guess[-1],
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


def test_a_device_proves_the_variants_of_a_bundle_each_on_its_engine(task: Path, fp32: Path) -> None:
    folder = task.parent
    exact, rows = fp32.read_bytes(), workbench.read_splits(load_task(task)).train.inputs
    int8, plain, small, packed = (folder / name for name in ("int8.onnx", "fp32.tflite", "int8.tflite", "wine.bundle"))
    int8.write_bytes(workbench.quantize_int8(exact, rows))
    plain.write_bytes(workbench.export_tflite(exact))
    small.write_bytes(workbench.quantize_tflite(plain.read_bytes(), rows).model)
    also = ("--also", plain, "--also", small)
    assert run("pack", task, fp32, int8, *also, "--out", packed, "--version", "1.0") == 0
    bundle = Bundle(packed)
    assert [(v.name, v.runtime) for v in bundle.manifest.variants[2:]] == [("fp32-litert", "litert"), ("int8-litert", "litert")]
    host = InferenceHost(catalog.load("generic-x86-64"), SystemClock())
    try:
        proof = host.prove(bundle)
    finally:
        host.close()
    right = {measured.variant for measured in proof.measurements if measured.is_right}
    assert right == {"fp32", "int8", "fp32-litert", "int8-litert"}
