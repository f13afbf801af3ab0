"""From a task file alone to a first bundle, and a retraining job on new labels: on wine data, whose sensors then change."""

import json
import shutil
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from securesystemslib.signer import CryptoSigner
from sklearn.datasets import load_wine
from tuf.api.metadata import Metadata, Targets

from fleet_contract import bundle, features, sketch
from fleet_contract.errors import ContractError
from fleet_contract.job import BadJob, JobSpec, LabelledSample, Progress, read_result
from fleet_contract.release import release_of
from model_tools import jobs, workbench
from model_tools.build import build
from model_tools.cli import main
from model_tools.delta.making import apply
from model_tools.errors import BadData, BadInput, GateFailed, ToolError
from model_tools.pack import reference
from model_tools.sign.releases import sign_releases

NOW = datetime(2030, 1, 1, tzinfo=UTC)
KEY = Ed25519PrivateKey.from_private_bytes(bytes([1]) * 32)
NEW = 48
TASK = """
[task]
name = "wine"
description = "Which of three growers a wine is from."

[input]
kind = "vector"

[data]
reader = "csv"
file = "rows.csv"
target = "grower"

[train]
epochs = 40

[retrain]
epochs = 40

[gates]
min_accuracy = 0.8
max_int8_drop = 0.1
min_gain_on_new = 0.2
max_loss_on_old = 0.1
"""


def shifted(rows: np.ndarray) -> np.ndarray:
    """Three sensors read otherwise from now on."""
    moved = rows.copy()
    moved[:, 0] += 2.5
    moved[:, 6] = 5.5 - moved[:, 6]
    moved[:, 12] = 1700 - moved[:, 12]
    return moved


def write_task(folder: Path, rows: np.ndarray, targets: np.ndarray, names: list[str]) -> Path:
    lines = [
        ",".join([*names, "grower"]),
        *(",".join([*map(repr, map(float, row)), f"g{t}"]) for row, t in zip(rows, targets, strict=True)),
    ]
    (folder / "rows.csv").write_text("\n".join(lines) + "\n")
    (folder / "task.toml").write_text(TASK)
    return folder / "task.toml"


@pytest.fixture(scope="module")
def desk(tmp_path_factory) -> Path:
    """A folder with task, champion, releases metadata and key, and `job`: the folder of a good job."""
    desk = tmp_path_factory.mktemp("desk")
    wine = load_wine()
    names = [name.replace("/", "-") for name in wine.feature_names]
    new = np.random.default_rng(0).permutation(len(wine.target))[:NEW]
    old = np.setdiff1d(np.arange(len(wine.target)), new)
    task = write_task(desk, wine.data[old], wine.target[old], names)
    (desk / "champion.bundle").write_bytes(build(workbench.load_task(task), "1.0", lambda _: None).bundle)
    (desk / "releases.pem").write_bytes(KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    metadata = Metadata(Targets(expires=NOW))
    metadata.sign(CryptoSigner(KEY))
    champion = (desk / "champion.bundle").read_bytes()
    (desk / "releases.json").write_bytes(sign_releases(metadata.to_bytes(), champion, CryptoSigner(KEY), NOW))
    write_job(desk / "job", desk, shifted(wine.data[new]), wine.target[new])
    return desk


def write_job(folder: Path, desk: Path, rows: np.ndarray, targets: np.ndarray) -> None:
    folder.mkdir()
    samples = []
    for n, (row, target) in enumerate(zip(rows, targets, strict=True)):
        (folder / f"{n}.json").write_text(json.dumps(row.tolist()))
        samples.append(LabelledSample(str(n), "press-3", f"{n}.json", "application/json", f"g{target}"))
    grid = known(desk / "champion.bundle").grid
    condition = reference.describe("drift-5", grid, rows.astype(np.float32), None)
    (folder / "condition.msgpack").write_bytes(msgspec.msgpack.encode(condition))
    spec = JobSpec(
        job="5",
        task_file=str(desk / "task.toml"),
        champion=str(desk / "champion.bundle"),
        bundle_version="1.0-r5",
        samples=samples,
        condition=str(folder / "condition.msgpack"),
        releases=str(desk / "releases.json"),
        releases_key=str(desk / "releases.pem"),
    )
    (folder / "spec.json").write_bytes(msgspec.json.encode(spec))


def known(path: Path) -> sketch.Reference:
    opened = bundle.Bundle(path)
    return sketch.decode_reference(opened.read(opened.manifest.reference))


@pytest.fixture
def folder(desk, tmp_path) -> Path:
    """A job folder of this test's own."""
    folder = Path(shutil.copytree(desk / "job", tmp_path / "job"))
    change(folder, condition=str(folder / "condition.msgpack"))
    return folder


def change(folder: Path, **fields: object) -> None:
    spec = json.loads((folder / "spec.json").read_text())
    (folder / "spec.json").write_text(json.dumps(spec | fields))


@pytest.fixture(scope="module")
def done(desk, tmp_path_factory) -> tuple[Path, list[Progress]]:
    """The good job, done once, and what it told on the way."""
    folder = Path(shutil.copytree(desk / "job", tmp_path_factory.mktemp("done") / "job"))
    told: list[Progress] = []
    jobs.run_job(folder, told.append, NOW)
    return folder, told


class TestAnAcceptedJob:
    def test_beats_the_champion_on_new_labels_and_keeps_the_old(self, done):
        result = read_result(done[0])
        assert result.accepted, result.reason
        assert all(gate.passed for gate in result.gates)
        assert result.metrics["challenger_new"] >= result.metrics["champion_new"] + 0.2
        assert result.metrics["challenger_old"] >= result.metrics["champion_old"] - 0.1
        assert result.metrics["labels_fit"] + result.metrics["labels_held"] == NEW

    def test_leaves_a_bundle_with_its_lineage(self, desk, done):
        made = bundle.Bundle(done[0] / read_result(done[0]).bundle)
        champion = bundle.Bundle(desk / "champion.bundle")
        assert (made.manifest.task, made.manifest.version) == ("wine", "1.0-r5")
        assert (made.manifest.lineage.parent, made.manifest.lineage.job) == (champion.sha256, "5")
        assert made.manifest.input.columns == champion.manifest.input.columns

    def test_knows_the_old_state_of_the_world_and_the_new_one(self, done):
        conditions = known(done[0] / read_result(done[0]).bundle).conditions
        assert [c.name for c in conditions] == ["training", "drift-5"]
        outputs = features.output_names(bundle.Bundle(done[0] / read_result(done[0]).bundle).manifest.output)
        assert {*outputs} <= {*conditions[0].features}
        assert {*outputs}.isdisjoint(conditions[1].features)

    def test_is_signed_as_the_next_release(self, done):
        result = read_result(done[0])
        signed = Metadata[Targets].from_bytes((done[0] / result.releases).read_bytes())
        signer = CryptoSigner(KEY)
        signer.public_key.verify_signature(signed.signatures[signer.public_key.keyid], signed.signed_bytes)
        assert signed.signed.version == 3
        assert signed.signed.targets["bundles/wine-1.0-r5.bundle"].hashes["sha256"] == bundle.Bundle(done[0] / result.bundle).sha256

    def test_comes_with_a_delta_from_the_champion(self, desk, done):
        result = read_result(done[0])
        targets = Metadata[Targets].from_bytes((done[0] / result.releases).read_bytes()).signed.targets
        (told,) = release_of(targets["bundles/wine-1.0-r5.bundle"].custom).deltas
        (wire,) = ((done[0] / name).read_bytes() for name in result.deltas)
        assert (told.base, targets[told.path].length) == (bundle.Bundle(desk / "champion.bundle").sha256, len(wire))
        assert apply((desk / "champion.bundle").read_bytes(), wire) == (done[0] / result.bundle).read_bytes()

    def test_tells_its_progress_in_order_to_the_end(self, done):
        shares = [p.share for p in done[1]]
        assert shares == sorted(shares)
        assert (shares[0], shares[-1]) == (0.0, 1.0)
        assert list(dict.fromkeys(p.stage for p in done[1])) == ["data", "train", "export", "quantize", "evaluate", "pack", "delta", "done"]

    def test_done_again_gives_the_same_bytes(self, done, folder):
        jobs.run_job(folder, lambda _: None, NOW)
        result = read_result(folder)
        assert (folder / result.bundle).read_bytes() == (done[0] / result.bundle).read_bytes()
        assert (folder / result.releases).read_bytes() == (done[0] / result.releases).read_bytes()


def test_a_challenger_below_its_gates_is_refused_and_nothing_is_signed(desk, folder, capsys):
    (desk / "strict.toml").write_text(TASK.replace("min_gain_on_new = 0.2", "min_gain_on_new = 1.0"))
    change(folder, task_file=str(desk / "strict.toml"))
    label_at_random(folder)
    with pytest.raises(SystemExit) as ended:
        main(["job", str(folder)])
    assert ended.value.code == GateFailed.exit_code
    result = read_result(folder)
    assert not result.accepted
    assert [gate.name for gate in result.gates if not gate.passed] == ["gain-on-new"]
    assert "accuracy won over the champion" in result.reason
    assert (result.bundle, result.releases) == (None, None)
    assert [*folder.glob("*.bundle")] == []
    assert [json.loads(line)["stage"] for line in capsys.readouterr().out.splitlines()][-1] == "done"


def test_a_job_without_new_labels_is_judged_on_the_old_alone(folder):
    change(folder, samples=[], condition=None)
    result = jobs.run_job(folder, lambda _: None, NOW)
    assert [gate.name for gate in result.gates] == ["accuracy", "int8-drop", "loss-on-old"]
    assert result.accepted, result.reason


def label_at_random(folder: Path) -> None:
    """Nothing can be learned from these."""
    spec = json.loads((folder / "spec.json").read_text())
    known = sorted({sample["label"] for sample in spec["samples"]})
    rng = np.random.default_rng(0)
    change(folder, samples=[{**sample, "label": str(rng.choice(known))} for sample in spec["samples"]])


def wrong_label(folder: Path) -> None:
    spec = json.loads((folder / "spec.json").read_text())
    spec["samples"][3]["label"] = "g9"
    (folder / "spec.json").write_text(json.dumps(spec))


def foreign_condition(folder: Path) -> None:
    condition = sketch.Condition("drift-5", ["alcohol"], sketch.Sketch(rows=1, counts=bytes(24), missing=bytes(4), moments=bytes(16)))
    (folder / "condition.msgpack").write_bytes(msgspec.msgpack.encode(condition))


@pytest.mark.parametrize(
    ("spoil", "error"),
    [
        pytest.param(lambda f: (f / "spec.json").unlink(), BadJob, id="no spec"),
        pytest.param(lambda f: (f / "spec.json").write_text("{"), BadJob, id="malformed spec"),
        pytest.param(lambda f: change(f, surprise=1), BadJob, id="unknown key"),
        pytest.param(lambda f: change(f, bundle_version="../2"), ContractError, id="a version that climbs"),
        pytest.param(lambda f: change(f, task_file="/nowhere.toml"), ToolError, id="no task file"),
        pytest.param(lambda f: change(f, champion="/nowhere.bundle"), BadInput, id="no champion"),
        pytest.param(lambda f: change(f, champion=str(f / "spec.json")), ContractError, id="a champion that is no bundle"),
        pytest.param(lambda f: change(f, releases_key="/nowhere.pem"), BadInput, id="no key"),
        pytest.param(wrong_label, BadData, id="a label that is no class"),
        pytest.param(lambda f: (f / "7.json").write_text("[1, 2]"), BadData, id="a sample of another length"),
        pytest.param(lambda f: (f / "7.json").write_text("[NaN]"), BadData, id="a sample that is no JSON"),
        pytest.param(lambda f: (f / "7.json").unlink(), BadData, id="a missing sample"),
        pytest.param(lambda f: (f / "condition.msgpack").write_bytes(b"\xc1"), BadInput, id="a malformed condition"),
        pytest.param(foreign_condition, ContractError, id="a condition on another grid"),
    ],
)
def test_a_job_that_cannot_be_done_says_why_before_it_trains(spoil, error, folder):
    spoil(folder)
    told: list[Progress] = []
    with pytest.raises(error):
        jobs.run_job(folder, told.append, NOW)
    assert {p.stage for p in told} <= {"data"}
    assert not (folder / "result.json").exists()


def test_a_bad_spec_exits_with_2(folder, capsys):
    (folder / "spec.json").write_text("{}")
    with pytest.raises(SystemExit) as ended:
        main(["job", str(folder)])
    assert ended.value.code == 2
    assert "spec.json" in capsys.readouterr().err


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main([str(a) for a in arguments])
    return ended.value.code


def test_the_single_steps_make_the_bundle_that_build_makes(desk, tmp_path, capsys):
    task, fp32, int8, packed = desk / "task.toml", tmp_path / "fp32.onnx", tmp_path / "int8.onnx", tmp_path / "packed.bundle"
    assert run("train", task, "--out", tmp_path / "checkpoint", "--no-tracking") == 0
    assert run("export", task, tmp_path / "checkpoint", "--out", fp32) == 0
    assert run("quantize", task, fp32, "--out", int8) == 0
    assert run("evaluate", task, fp32, int8) == 0
    assert run("pack", task, fp32, int8, "--version", "1.0", "--out", packed) == 0
    assert packed.read_bytes() == (desk / "champion.bundle").read_bytes()


def test_a_model_below_the_gates_is_not_packed(desk, tmp_path, capsys):
    (desk / "proud.toml").write_text(TASK.replace("epochs = 40", "epochs = 1").replace("min_accuracy = 0.8", "min_accuracy = 1.0"))
    assert run("build", desk / "proud.toml", "--version", "1.0", "--out", tmp_path / "x.bundle", "--json") == GateFailed.exit_code
    assert json.loads(capsys.readouterr().err.splitlines()[-1])["error"]["code"] == "gate-failed"
    assert not (tmp_path / "x.bundle").exists()


def test_a_file_that_is_no_model_is_bad_input(desk, tmp_path, capsys):
    (tmp_path / "no.onnx").write_bytes(b"no model")
    assert run("evaluate", desk / "task.toml", tmp_path / "no.onnx", tmp_path / "no.onnx") == 2
    assert "ONNX" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("task", "names"),
    [
        pytest.param(TASK + "\n[surprise]\n", "surprise", id="unknown key"),
        pytest.param(TASK.replace('"grower"', '"winery"'), "winery", id="missing column"),
        pytest.param(TASK.replace("rows.csv", "none.csv"), "none.csv", id="missing file"),
    ],
)
def test_a_bad_task_exits_with_2_and_names_what_is_wrong(task, names, desk, tmp_path, capsys):
    (desk / "bad.toml").write_text(task)
    assert run("build", desk / "bad.toml", "--version", "1.0", "--out", tmp_path / "x.bundle") == 2
    assert names in capsys.readouterr().err


def test_columns_that_cannot_be_followed_are_refused_before_training(desk, tmp_path, capsys):
    columns = ",".join(f"c{n}" for n in range(1023))
    rows = "\n".join(",".join([*(str((n + r) % 7) for n in range(1023)), f"g{r % 2}"]) for r in range(40))
    (desk / "wide.csv").write_text(f"{columns},grower\n{rows}\n")
    (desk / "wide.toml").write_text(TASK.replace("rows.csv", "wide.csv"))
    assert run("build", desk / "wide.toml", "--version", "1.0", "--out", tmp_path / "x.bundle") == 2
    told = capsys.readouterr().err
    assert "1022" in told
    assert "train" not in told


def test_a_version_that_cannot_be_released_is_refused_before_training(desk, tmp_path, capsys):
    assert run("build", desk / "task.toml", "--version", "1/0", "--out", tmp_path / "x.bundle", "--json") == 2
    assert json.loads(capsys.readouterr().err)["error"]["code"] == "bad-name"
