"""Models made elsewhere: what a description may say, what a wrong one is told, and that devices accept the bundle."""

import hashlib
import json
import tomllib
from pathlib import Path

import msgspec
import numpy as np
import pytest

from edge_agent.clock import SystemClock
from edge_agent.inference.host import InferenceHost
from firmware_profiles import catalog
from fleet_contract.bundle import Bundle
from fleet_contract.inputs import InputSpec
from fleet_contract.outputs import OutputSpec
from fleet_contract.sketch import decode_reference
from model_tools.adopt.adoption import adopt
from model_tools.adopt.description import load_description
from model_tools.adopt.isolation import Bounds
from model_tools.cli import main
from model_tools.errors import ToolError
from tests.fakes import agent_run_models as models
from tests.fakes import corpus, corpus_bundles

DESCRIPTION = """
[model]
name = "toy"
source = "somebody's models @1"
metrics = {accuracy = 0.9}
[input]
type = "vector"
tensor = "input"
columns = ["a", "b"]
low = [-10.0, -10.0]
high = [10.0, 10.0]
[output]
type = "classification"
tensor = "logits"
classes = ["no", "yes"]
[[variants]]
file = "linear.onnx"
precision = "fp32"
[samples]
file = "rows.npz"
"""
CLASSES = 'type = "classification"\ntensor = "logits"\nclasses = ["no", "yes"]'
THRESHOLD = 'type = "threshold"\ntensor = "logits"\nlabels = ["no", "yes"]'
TARGET = 'type = "regression"\ntensor = "logits"\ntargets = ["t"]\nscale = [1.0]\noffset = [0.0]\nunits = ["K"]'
ROWS = np.random.default_rng(4).uniform(-9, 9, (40, 2)).astype(np.float32)


@pytest.fixture
def desk(tmp_path: Path) -> Path:
    (tmp_path / "toy.toml").write_text(DESCRIPTION)
    (tmp_path / "linear.onnx").write_bytes(models.linear())
    np.savez(tmp_path / "rows.npz", input=ROWS)
    return tmp_path


def adopted(desk: Path, bounds: Bounds = Bounds()) -> Bundle:
    return Bundle(adopt(load_description(desk / "toy.toml"), "1.0", bounds))


def test_a_bundle_says_where_its_models_come_from(desk: Path) -> None:
    made = adopted(desk)
    assert made.manifest.lineage.code == "somebody's models @1"
    assert made.manifest.lineage.data_sha256 == hashlib.sha256((desk / "rows.npz").read_bytes()).hexdigest()
    assert not made.manifest.policy.retrain.automatic
    card = made.read(made.manifest.card).decode()
    assert "somebody's models @1" in card
    assert "| accuracy | 0.9 |" in card


def test_the_samples_are_its_evidence(desk: Path) -> None:
    made = adopted(desk)
    (training,) = decode_reference(made.read(made.manifest.reference)).conditions
    assert (training.name, training.sketch.rows) == ("training", len(ROWS))
    known = made.known_answers()
    inputs = np.frombuffer(known.inputs["input"].data, "<f4").reshape(-1, 2)
    answers = np.frombuffer(known.outputs["fp32"]["logits"].data, "<f4").reshape(-1, 2)
    assert np.abs(inputs @ models.WEIGHT - answers).max() < made.manifest.variants[0].tolerance


def test_the_documented_kinds_are_all_there_are() -> None:
    page = (Path(__file__).parents[2] / "docs" / "adopting-models.md").read_text()
    kinds = tomllib.loads(page.split("## Kinds of input and output")[1].split("```toml")[1].split("```")[0])
    for section, union in (("input", InputSpec), ("output", OutputSpec)):
        assert {type(msgspec.convert(said, union)) for said in kinds[section].values()} == {*union.__args__}


def test_a_tolerance_of_ones_own_goes_before_the_rule(desk: Path) -> None:
    (desk / "toy.toml").write_text(DESCRIPTION.replace('"fp32"\n', '"fp32"\ntolerance = 0.125\n'))
    assert adopted(desk).manifest.variants[0].tolerance == 0.125


@pytest.mark.parametrize(
    ("old", "new", "field"),
    [
        pytest.param('name = "toy"', 'name = "To y"', "model.name", id="a name that is none"),
        pytest.param('source = "somebody\'s models @1"\n', "", "model.source", id="no source"),
        pytest.param('type = "vector"', 'type = "sound"', "input.type", id="an unknown kind of input"),
        pytest.param("classes", "clases", "output.clases", id="an unknown key"),
        pytest.param("linear.onnx", "none.onnx", "variants.file", id="no such model"),
        pytest.param("linear.onnx", "toy.toml", "variants.runtime", id="an ending that tells no runtime"),
        pytest.param('tensor = "input"', 'tensor = "other"', "samples.file", id="samples of another tensor"),
        pytest.param('tensor = "logits"', 'tensor = "other"', "output.tensor", id="an output that the model has not"),
        pytest.param('["no", "yes"]', '["no", "yes", "maybe"]', "output.classes", id="more classes than the model has"),
        pytest.param(CLASSES, THRESHOLD, "output.tensor", id="one logit wanted of a model with two"),
        pytest.param(CLASSES, TARGET, "output.targets", id="fewer targets than the model has"),
        pytest.param('columns = ["a", "b"]', 'columns = ["a"]', "input", id="a column without bounds"),
        pytest.param("low = [-10.0, -10.0]", "low = [-10.0, 5.0]", "input.low, input.high of b", id="samples that a device would refuse"),
        pytest.param("rows.npz", "linear.onnx", "samples.file", id="samples that are none"),
        pytest.param("rows.npz", "nan.npy", "samples.file", id="samples with NaN"),
        pytest.param("rows.npz", "wide.npy", "samples.file", id="samples of another shape"),
        pytest.param("rows.npz", "text.npy", "samples.file", id="samples of another type"),
        pytest.param("rows.npz", "empty.npy", "held_out", id="no samples"),
        pytest.param("rows.npz", "same.npy", "fp32", id="samples that a wrong model would pass with"),
    ],
)
def test_what_is_wrong_is_named(desk: Path, old: str, new: str, field: str) -> None:
    np.save(desk / "nan.npy", np.full((3, 2), np.nan, np.float32))
    np.save(desk / "wide.npy", np.zeros((3, 3), np.float32))
    np.save(desk / "text.npy", np.array([["a", "b"]]))
    np.save(desk / "empty.npy", ROWS[:0])
    np.save(desk / "same.npy", ROWS[[0, 0, 0, 0]])
    assert old in DESCRIPTION
    (desk / "toy.toml").write_text(DESCRIPTION.replace(old, new))
    with pytest.raises(ToolError) as refused:
        adopted(desk)
    assert refused.value.field == field


@pytest.mark.parametrize(
    ("model", "bounds"),
    [
        pytest.param(models.endless(), Bounds(time_s=1.0), id="one that never answers"),
        pytest.param(models.memory_bomb(), Bounds(memory_mb=4_096), id="one that takes all memory"),
        pytest.param(b"no model", Bounds(), id="no model at all"),
    ],
)
def test_a_model_that_does_harm_ends_in_a_clear_error(desk: Path, model: bytes, bounds: Bounds) -> None:
    (desk / "linear.onnx").write_bytes(model)
    with pytest.raises(ToolError) as refused:
        adopted(desk, bounds)
    assert refused.value.exit_code == 2


def test_the_command_answers_in_json_and_with_exit_code_2(desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["adopt", str(desk / "toy.toml"), "--out", str(desk / "toy.bundle"), "--version", "1.0", "--json"]
    with pytest.raises(SystemExit) as ended:
        main(command)
    assert ended.value.code == 0
    assert json.loads(capsys.readouterr().out)["sha256"] == Bundle(desk / "toy.bundle").sha256
    (desk / "rows.npz").unlink()
    with pytest.raises(SystemExit) as ended:
        main(command)
    assert ended.value.code == 2
    assert json.loads(capsys.readouterr().err)["error"]["field"] == "samples.file"


@pytest.mark.skipif(corpus.missing() is not None, reason=corpus.missing() or "")
@pytest.mark.parametrize("name", corpus_bundles.NAMES)
def test_real_models_become_bundles_that_a_device_proves(name: str, tmp_path: Path) -> None:
    bundle = Bundle(corpus_bundles.make(name, tmp_path))
    host = InferenceHost(catalog.load("generic-x86-64"), SystemClock())
    try:
        proof = host.prove(bundle)
    finally:
        host.close()
    assert {measurement.verdict for measurement in proof.measurements} == {"right"}
    assert {measurement.variant for measurement in proof.measurements} == {variant.name for variant in bundle.manifest.variants}
