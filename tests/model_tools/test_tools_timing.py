"""What models cost to run here, and how commands name models."""

import json

import numpy as np
import pytest

from fleet_contract.errors import BadModel
from model_tools.cli import main
from model_tools.errors import BadInput
from model_tools.evaluate.timing import made_up, time_models
from model_tools.graphs import GraphTensor
from model_tools.model_files import ModelFile, read_model, read_models
from tests.fakes import agent_run_models as models

LINEAR = ModelFile("onnxruntime", models.linear())


class TestTiming:
    def test_tells_latency_loading_and_memory_of_each(self):
        found = time_models({"one": LINEAR, "other": LINEAR}, rounds=10)
        assert [*found] == ["one", "other"]
        for timing in found.values():
            assert 0 < timing.p50_ms <= timing.p99_ms
            assert timing.load_ms > 0
            assert timing.memory_mb >= 0
            assert timing.rows == 1

    def test_rows_go_under_the_graphs_own_name(self):
        found = time_models({"one": LINEAR}, {"pixels": np.zeros((5, 2), np.float64)}, rounds=10)
        assert found["one"].rows == 5

    @pytest.mark.parametrize(
        ("model", "field"),
        [
            pytest.param(ModelFile("onnxruntime", b"no model"), "model", id="no model"),
            pytest.param(ModelFile("litert", b"no model"), "model", id="no flatbuffer"),
        ],
    )
    def test_a_model_that_does_not_run_is_refused(self, model, field):
        with pytest.raises(BadInput) as refused:
            time_models({"one": model}, rounds=10)
        assert refused.value.field == field

    def test_open_axes_are_one_and_text_is_refused(self):
        assert made_up({"x": GraphTensor("float32", (-1, 3))})["x"].shape == (1, 3)
        with pytest.raises(BadInput):
            made_up({"x": GraphTensor("string", (1,))})


class TestModelFiles:
    @pytest.fixture
    def folder(self, tmp_path):
        (tmp_path / "a.onnx").write_bytes(LINEAR.data)
        (tmp_path / "a.bundle").write_bytes(models.bundle())
        (tmp_path / "broken.onnx").write_bytes(LINEAR.data[:40])
        (tmp_path / "broken.tflite").write_bytes(LINEAR.data)
        (tmp_path / "a.pkl").write_bytes(b"\x80\x04.")
        return tmp_path

    def test_a_file_a_bundle_and_one_of_its_variants(self, folder):
        assert read_models(f"{folder}/a.onnx") == {"a.onnx": LINEAR}
        every = read_models(f"{folder}/a.bundle")
        name, first = read_model(f"{folder}/a.bundle")
        assert every[name] == first
        assert read_models(f"{folder}/{name}") == {name: first}

    @pytest.mark.parametrize(
        ("given", "wrong"),
        [
            pytest.param("none.onnx", BadInput, id="no such file"),
            pytest.param("a.pkl", BadInput, id="another ending"),
            pytest.param("a.bundle:none", BadInput, id="no such variant"),
            pytest.param("broken.onnx", BadModel, id="a truncated ONNX file"),
            pytest.param("broken.tflite", BadModel, id="no TFLite file"),
        ],
    )
    def test_what_is_no_model_is_named(self, folder, given, wrong):
        with pytest.raises(wrong) as refused:
            read_models(f"{folder}/{given}")
        assert refused.value.field


def test_the_command_answers_with_one_object(tmp_path, capfd):
    (tmp_path / "a.onnx").write_bytes(LINEAR.data)
    main_exits(["bench", str(tmp_path / "a.onnx"), "--rounds", "10", "--json"], 0)
    told = json.loads(capfd.readouterr().out)
    assert told["models"]["a.onnx"]["bytes"] == len(LINEAR.data)


def main_exits(arguments: list[str], code: int) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert (ended.value.code or 0) == code
