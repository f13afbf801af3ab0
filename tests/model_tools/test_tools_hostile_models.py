"""A model that came from elsewhere and does harm when it runs: a clear error within the bounds, and nothing of it in this process."""

from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from model_tools import workbench
from model_tools.adopt.isolation import Bounds
from model_tools.cli import main
from model_tools.errors import BadInput
from model_tools.model_files import ModelFile
from model_tools.packing import Files, pack_models
from tests.fakes import agent_run_models as models

TASK = '[task]\nname = "toy"\n[input]\nkind = "vector"\n[data]\nreader = "csv"\nfile = "rows.csv"\ntarget = "state"\n'


@pytest.fixture
def task(tmp_path: Path) -> Path:
    drawn = np.random.default_rng(3).normal(size=(60, 2))
    lines = [f"{a:.4f},{b:.4f},{'worn' if a + b > 0 else 'good'}" for a, b in drawn]
    (tmp_path / "rows.csv").write_text("\n".join(["a,b,state", *lines]) + "\n")
    (tmp_path / "task.toml").write_text(TASK)
    return tmp_path / "task.toml"


@pytest.mark.parametrize(
    ("model", "bounds"),
    [
        pytest.param(models.endless(), Bounds(time_s=1.0), id="one that never answers"),
        pytest.param(models.memory_bomb(), Bounds(memory_mb=6_000), id="one that takes all memory"),
    ],
)
def test_packing_ends_within_its_bounds(task: Path, model: bytes, bounds: Bounds) -> None:
    loaded = workbench.load_task(task)
    files = Files(ModelFile("onnxruntime", model))
    with pytest.raises(BadInput):
        pack_models(loaded, workbench.read_splits(loaded), files, "1.0", lambda progress: None, bounds=bounds)


@pytest.mark.parametrize("given", [pytest.param(["no.onnx"], id="fp32"), pytest.param(["yes.onnx", "no.onnx"], id="int8")])
def test_pack_names_what_is_no_model(task: Path, given: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    (task.parent / "yes.onnx").write_bytes(models.linear())
    (task.parent / "no.onnx").symlink_to("/dev/zero")
    out = task.parent / "toy.bundle"
    with pytest.raises(SystemExit) as ended:
        main(["pack", str(task), *[str(task.parent / name) for name in given], "--out", str(out), "--version", "1.0"])
    assert ended.value.code == 2
    assert "larger than" in capfd.readouterr().err
    assert not out.exists()


def test_an_answer_of_another_shape_is_no_answer(task: Path) -> None:
    loaded = workbench.load_task(task)
    splits = workbench.read_splits(loaded)
    with pytest.raises(BadInput) as refused:
        workbench.output_spec(loaded, splits, wide())
    assert (refused.value.field, refused.value.limit) == ("output", 2)
    with pytest.raises(BadInput):
        workbench.evaluate(wide(), splits.test, workbench.output_outline(loaded, splits))


def wide() -> bytes:
    """(rows, columns, 1): its largest figure would be read along another axis."""
    nodes = [helper.make_node("Unsqueeze", ["input", "axis"], ["logits"])]
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in (("input", ["n", 2]), ("logits", ["n", 2, 1]))]
    graph = helper.make_graph(nodes, "wide", ends[:1], ends[1:], [numpy_helper.from_array(np.array([2]), "axis")])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9).SerializeToString()
