"""Models made elsewhere: what comes in, how it answers afterwards, and what stays outside."""

import io
import json
import pickle
import zipfile
from functools import cache

import joblib
import numpy as np
import onnx
import pytest
import skops.io
import torch
from onnx import TensorProto, helper, numpy_helper
from sklearn.datasets import load_diabetes, load_iris
from sklearn.ensemble import HistGradientBoostingClassifier, IsolationForest, RandomForestRegressor
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from torch import nn

from fleet_contract.bundle import Bundle
from fleet_contract.errors import ContractError
from model_tools.cli import main
from model_tools.errors import BadInput
from model_tools.importing import estimators
from model_tools.importing.formats import format_of
from model_tools.importing.programs import convert, harmless
from model_tools.importing.record import import_model, origin_of, write_imported
from model_tools.running import logits
from tests.fakes import agent_run_models as models
from tests.fakes import real_tasks

IRIS, KINDS = load_iris(return_X_y=True)
NAMES = load_iris().target_names[KINDS]


def answered(capfd, *arguments: object) -> tuple[int, str]:
    with pytest.raises(SystemExit) as ended:
        main([str(a) for a in arguments])
    told = capfd.readouterr()
    return ended.value.code or 0, told.out + told.err


def old_style(opset: int = 9) -> bytes:
    """As exporters of 2018 wrote them: weights are inputs, a softmax stands at the end, tensors have names of their own."""
    weight = np.float32([[1, 2, 3], [4, 5, 6]])
    nodes = [helper.make_node("MatMul", ["data", "w"], ["scores"]), helper.make_node("Softmax", ["scores"], ["prob"], axis=1)]
    inputs = [
        helper.make_tensor_value_info("data", TensorProto.FLOAT, ["n", 2]),
        helper.make_tensor_value_info("w", TensorProto.FLOAT, [2, 3]),
    ]
    outputs = [helper.make_tensor_value_info("prob", TensorProto.FLOAT, ["n", 3])]
    graph = helper.make_graph(nodes, "g", inputs, outputs, [numpy_helper.from_array(weight, "w")])
    graph.doc_string = "/home/somebody/train.py"
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8).SerializeToString()


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.body(x)


@cache
def program(module: nn.Module | None = None, *, fixed: bool = False) -> bytes:
    torch.manual_seed(0)
    shapes = None if fixed else ({0: torch.export.Dim("batch", min=1)},)
    exported = torch.export.export((module or Small()).eval(), (torch.randn(2, 1, 8, 8),), dynamic_shapes=shapes)
    buffer = io.BytesIO()
    torch.export.save(exported, buffer)
    return buffer.getvalue()


def rewritten(archive: bytes, name: str, change) -> bytes:
    """One entry of a .pt2 by another."""
    made = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(archive)) as old, zipfile.ZipFile(made, "w") as new:
        for entry in old.infolist():
            data = old.read(entry)
            new.writestr(entry.filename, change(data) if entry.filename.endswith(name) else data)
    return made.getvalue()


class TestOnnx:
    def test_is_valid_named_and_of_a_new_operator_set_and_answers_as_before(self, tmp_path):
        (tmp_path / "theirs.onnx").write_bytes(old_style())
        made = import_model(tmp_path / "theirs.onnx")
        graph = onnx.load_from_string(made.data)
        assert ([i.name for i in graph.graph.input], [o.name for o in graph.graph.output]) == (["input"], ["logits"])
        assert graph.opset_import[0].version >= 17
        assert b"somebody" not in made.data
        rows = np.float32([[1, 0], [0, 1], [0.1, 0.2]])
        scores = rows @ np.float32([[1, 2, 3], [4, 5, 6]])
        share = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
        np.testing.assert_allclose(logits(made.data, rows), share, atol=1e-6)
        np.testing.assert_allclose(logits(import_model(tmp_path / "theirs.onnx", logits=True).data, rows), scores, atol=1e-6)

    def test_the_record_says_where_it_came_from(self, tmp_path):
        (tmp_path / "theirs.onnx").write_bytes(old_style())
        made = import_model(tmp_path / "theirs.onnx")
        out = tmp_path / "fp32.onnx"
        record = json.loads(write_imported(made, out).read_bytes())
        assert (record["format"], record["precision"], record["inputs"]) == ("onnx", "fp32", {"input": [-1, 2]})
        assert origin_of(out) == f"onnx sha256:{record['source_sha256']}"
        out.write_bytes(old_style())
        assert origin_of(out) is None

    def test_same_file_same_bytes(self, tmp_path):
        (tmp_path / "theirs.onnx").write_bytes(old_style())
        assert import_model(tmp_path / "theirs.onnx") == import_model(tmp_path / "theirs.onnx")


class TestPrograms:
    def test_answers_as_the_module_did_its_batch_norms_folded(self, tmp_path):
        module = Small()
        nn.init.uniform_(module.body[1].running_mean)
        (tmp_path / "m.pt2").write_bytes(program(module))
        made = import_model(tmp_path / "m.pt2")
        rows = np.random.default_rng(0).normal(size=(5, 1, 8, 8)).astype(np.float32)
        with torch.inference_mode():
            np.testing.assert_allclose(logits(made.data, rows), module(torch.from_numpy(rows)).numpy(), atol=1e-4)
        assert "BatchNormalization" not in {node.op_type for node in onnx.load_from_string(made.data).graph.node}

    @pytest.mark.parametrize(
        ("entry", "change"),
        [
            pytest.param("weights_config.json", lambda d: d.replace(b'"use_pickle": false', b'"use_pickle": true'), id="pickled weights"),
            pytest.param("model.json", lambda d: d.replace(b"torch.ops.aten.relu.default", b"torch.hub.load"), id="another function"),
            pytest.param("model.json", lambda d: d.replace(b"Symbol('", b"__import__('"), id="code for a shape"),
            pytest.param("model.json", lambda d: d[:100], id="torn"),
        ],
    )
    def test_what_could_run_code_is_refused(self, entry, change):
        with pytest.raises(BadInput) as refused:
            harmless(rewritten(program(), entry, change))
        assert refused.value.field == "model"

    def test_guards_and_sample_inputs_are_left_out(self):
        pickled = rewritten(program(), "sample_inputs/model.pt", lambda d: b"wicked")
        guarded = rewritten(pickled, "model.json", lambda d: json.dumps(json.loads(d) | {"guards_code": ["wicked()"]}).encode())
        assert b"wicked" in guarded
        assert b"wicked" not in harmless(guarded)

    def test_one_number_of_rows_is_refused_with_the_way_out(self):
        with pytest.raises(BadInput, match="dynamic_shapes"):
            convert(program(fixed=True))


class TestEstimators:
    @pytest.mark.parametrize(
        "estimator",
        [
            pytest.param(make_pipeline(StandardScaler(), LogisticRegression()), id="linear"),
            pytest.param(HistGradientBoostingClassifier(max_iter=5), id="boosted trees"),
        ],
    )
    def test_a_classifiers_logits_give_its_probabilities_in_the_order_asked_for(self, tmp_path, estimator):
        estimator.fit(IRIS, NAMES)
        skops.io.dump(estimator, tmp_path / "m.skops")
        order = ["virginica", "setosa", "versicolor"]
        made, classes, _ = estimators.convert((tmp_path / "m.skops").read_bytes(), [], order)
        assert classes == order
        said = np.exp(logits(made, IRIS.astype(np.float32)))
        columns = [list(estimator.classes_).index(name) for name in order]
        np.testing.assert_allclose(said, estimator.predict_proba(IRIS)[:, columns], atol=2e-3)

    def test_a_regressor_and_a_detector(self, tmp_path):
        rows, values = load_diabetes(return_X_y=True)
        forest = RandomForestRegressor(n_estimators=5, max_depth=3, random_state=0).fit(rows, values)
        strange = IsolationForest(n_estimators=5, random_state=0).fit(rows)
        for estimator, wanted in ((forest, forest.predict(rows)), (strange, -strange.decision_function(rows))):
            skops.io.dump(estimator, tmp_path / "m.skops")
            said = logits(estimators.convert((tmp_path / "m.skops").read_bytes(), [], [])[0], rows.astype(np.float32))
            assert said.shape == (len(rows), 1)
            assert (np.abs(said[:, 0] - wanted) < 1e-3 * np.abs(wanted).max()).mean() > 0.95

    def test_a_type_that_nobody_trusts_is_named(self, tmp_path):
        skops.io.dump(make_pipeline(FunctionTransformer(np.load), StandardScaler()), tmp_path / "m.skops")
        with pytest.raises(BadInput) as refused:
            estimators.convert((tmp_path / "m.skops").read_bytes(), [], [])
        assert refused.value.field == "trust"

    def test_other_classes_are_refused(self, tmp_path):
        skops.io.dump(LogisticRegression(max_iter=500).fit(IRIS, NAMES), tmp_path / "m.skops")
        with pytest.raises(BadInput) as refused:
            estimators.convert((tmp_path / "m.skops").read_bytes(), [], ["a", "b", "c"])
        assert refused.value.field == "output.classes"


class _Wicked:
    def __reduce__(self):
        return (print, ("run",))


def joblib_bytes() -> bytes:
    buffer = io.BytesIO()
    joblib.dump(_Wicked(), buffer)
    return buffer.getvalue()


def torch_bytes() -> bytes:
    buffer = io.BytesIO()
    torch.save({"w": torch.zeros(2)}, buffer)
    return buffer.getvalue()


REFUSED = [
    pytest.param("m.pkl", pickle.dumps(_Wicked()), "pickle", id="a pickle"),
    pytest.param("m.onnx", pickle.dumps(_Wicked()), "pickle", id="a pickle that calls itself ONNX"),
    pytest.param("m.joblib", joblib_bytes(), "pickle", id="joblib"),
    pytest.param("m.pth", torch_bytes(), "pickle", id="torch.save"),
    pytest.param("m.onnx", torch_bytes(), "pickle", id="torch.save that calls itself ONNX"),
    pytest.param("m.onnx", old_style()[:-60], "cut short", id="a truncated ONNX file"),
    pytest.param("m.onnx", b"", "empty", id="an empty file"),
    pytest.param("m.onnx", models.external_data("/etc/passwd"), "another file", id="weights in another file"),
    pytest.param("m.onnx", models.foreign_operator(), "com.example", id="an operator of an unknown domain"),
    pytest.param("m.onnx", models.linear().replace(b"MatMul", b"MutMal"), "MutMal", id="an operator that there is not"),
    pytest.param("m.tflite", b"\x1c\x00\x00\x00TFL3" + bytes(64), "model", id="a broken TFLite file"),
    pytest.param("m.h5", b"\x89HDF\r\n", "known", id="another format"),
    pytest.param("m.skops", b"PK\x03\x04 torn", "torn", id="a torn archive"),
]


@pytest.mark.parametrize(("name", "data", "words"), REFUSED)
def test_what_is_refused_ends_with_2_and_leaves_nothing(tmp_path, capfd, name, data, words):
    (tmp_path / name).write_bytes(data)
    code, told = answered(capfd, "import", tmp_path / name, "--out", tmp_path / "out.onnx")
    assert code == 2, told
    assert words in told
    assert "run\n" not in told
    assert not [*tmp_path.glob("out*")]


def test_a_model_without_end_is_ended(tmp_path, capfd):
    (tmp_path / "m.onnx").write_bytes(models.memory_bomb())
    assert answered(capfd, "import", tmp_path / "m.onnx", "--out", tmp_path / "out.onnx", "--memory-mb", "4096")[0] == 2


def test_tflite_stays_tflite_and_wants_its_ending(tmp_path, capfd):
    tflite_models = pytest.importorskip("tests.fakes.tflite_models", reason="LiteRT is not installed")
    (tmp_path / "m.tflite").write_bytes(tflite_models.linear(models.WEIGHT))
    assert answered(capfd, "import", tmp_path / "m.tflite", "--out", tmp_path / "out.onnx")[0] == 2
    assert answered(capfd, "import", tmp_path / "m.tflite", "--out", tmp_path / "out.tflite")[0] == 0
    assert (tmp_path / "out.tflite").read_bytes() == (tmp_path / "m.tflite").read_bytes()


def test_the_bytes_tell_the_format():
    assert format_of("anything", program()) == "pt2"


class TestWithATask:
    def test_an_estimator_takes_the_tasks_classes_and_is_packed_with_its_origin(self, tmp_path, capfd):
        task = real_tasks.iris(tmp_path)
        skops.io.dump(LogisticRegression(max_iter=500).fit(IRIS, NAMES), tmp_path / "m.skops")
        code, told = answered(capfd, "import", tmp_path / "m.skops", "--task", task, "--out", tmp_path / "fp32.onnx", "--json")
        assert code == 0, told
        assert json.loads(told)["classes"] == ["setosa", "versicolor", "virginica"]
        packed = answered(capfd, "pack", task, tmp_path / "fp32.onnx", "--out", tmp_path / "iris.bundle", "--version", "1.0")
        assert packed[0] == 0, packed[1]
        manifest = Bundle(tmp_path / "iris.bundle").manifest
        assert manifest.lineage.source == origin_of(tmp_path / "fp32.onnx")
        assert [variant.precision for variant in manifest.variants] == ["fp32"]
        assert manifest.lineage.metrics["fp32_accuracy"] >= 0.9

    def test_a_model_of_other_columns_is_refused(self, tmp_path, capfd):
        task = real_tasks.iris(tmp_path)
        (tmp_path / "m.onnx").write_bytes(models.linear())
        code, told = answered(capfd, "import", tmp_path / "m.onnx", "--task", task, "--out", tmp_path / "fp32.onnx")
        assert code == 2, told
        assert not (tmp_path / "fp32.onnx").exists()


def test_errors_of_the_contract_keep_their_field(tmp_path):
    (tmp_path / "m.onnx").write_bytes(models.external_data("x"))
    with pytest.raises(ContractError) as refused:
        import_model(tmp_path / "m.onnx")
    assert refused.value.field == "data_location"
