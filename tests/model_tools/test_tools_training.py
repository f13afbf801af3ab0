"""Recipes of every kind, what steers a training, and what is known of it afterwards."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch

from fleet_contract.outputs import Anomaly
from model_tools import workbench
from model_tools.cli import main
from model_tools.data.dataset import Dataset, Splits
from model_tools.errors import BadData, BadInput, BadTask, Failed
from model_tools.evaluate.answering import fit_temperature, fit_threshold
from model_tools.sections import Search, Training
from model_tools.task import Task, load_task
from model_tools.train import networks, training
from model_tools.train.fit import fit
from model_tools.train.folds import cut_folds, set_aside
from model_tools.train.judging import judge
from model_tools.train.run import run_id
from model_tools.train.tracking import open_run, without_secrets
from tests.fakes import real_tasks

NOW = datetime(2026, 1, 1, tzinfo=UTC)
BRIEF = "[train]\nepochs = 3\nwidth = 8\n"
OWN = """
from torch import nn

def small(shape, outputs):
    return nn.Sequential(nn.Linear(shape[0], 16), nn.ReLU(), nn.Linear(16, outputs))

def wrong(shape, outputs):
    return nn.Linear(shape[0], outputs + 1)

number = lambda shape, outputs: 3
"""


def quiet(share: float, told: str) -> None:
    pass


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    return ended.value.code


def made(path: Path) -> tuple[Task, Splits]:
    task = load_task(path)
    return task, workbench.read_splits(task)


def quality(task: Task, splits: Splits, trained: workbench.Trained) -> float:
    return judge(task, trained.module, splits.test, splits.validation).quality


def of_kind(folder: Path, kind: str, shape: str, more: str = "") -> Task:
    target = "" if kind == "anomaly" else 'target = "y"'
    (folder / "task.toml").write_text(
        f'[task]\nname = "t"\nkind = "{kind}"\n[input]\n{shape}\n[data]\nreader = "csv"\nfile = "x.csv"\n{target}\n{more}'
    )
    return load_task(folder / "task.toml")


def waves(kind: str, rows: int = 240) -> Splits:
    """Windows of 24 samples of 2 columns: a slow wave or a fast one; how fast; slow ones and, where anomalies are sought, some fast ones."""
    rng = np.random.default_rng(0)
    fast = rng.random(rows) < 0.5
    speed = np.where(fast, rng.uniform(0.9, 1.2, rows), rng.uniform(0.3, 0.6, rows))
    phase = rng.uniform(0, 6, (rows, 1)) + speed[:, None] * np.arange(24)
    inputs = np.stack([np.sin(phase), 100 + 5 * np.cos(phase)], axis=2) + rng.normal(0, 0.05, (rows, 24, 2))
    labels = speed.astype(np.float32) * 100 if kind == "regression" else fast.astype(np.int64)
    classes = {"classification": ("slow", "fast"), "regression": (), "anomaly": ("normal", "anomaly")}[kind]
    whole = Dataset(inputs.astype(np.float32), labels, classes, tuple(map(str, range(rows))), ("a", "b"))
    return Splits(whole.select(range(160)), whole.select(range(160, 190)), whole.select(range(190, rows)))


class TestRecipes:
    @pytest.mark.parametrize(
        ("make", "least"),
        [
            pytest.param(real_tasks.diabetes, 0.4, id="regression"),
            pytest.param(real_tasks.breast_cancer_anomalies, 0.9, id="anomalies"),
            pytest.param(real_tasks.iris, 0.9, id="classes"),
        ],
    )
    def test_vectors(self, tmp_path: Path, make, least: float) -> None:
        task, splits = made(make(tmp_path))
        assert quality(task, splits, workbench.train(task, splits, quiet)) >= least

    @pytest.mark.parametrize("kind", ["classification", "regression", "anomaly"])
    def test_windows(self, tmp_path: Path, kind: str) -> None:
        task = of_kind(tmp_path, kind, 'kind = "window"\nlength = 24', "[train]\nepochs = 60\n")
        splits = waves(kind)
        trained = workbench.train(task, splits, quiet)
        assert quality(task, splits, trained) >= 0.9
        with torch.inference_mode():
            assert trained.module(torch.from_numpy(splits.test.inputs)).shape == (50, 2 if kind == "classification" else 1)

    @pytest.mark.parametrize("length", [2, 7, 64, 1_000, 16_000])
    def test_a_network_for_any_length_of_window(self, tmp_path: Path, length: int) -> None:
        task = of_kind(tmp_path, "regression", f'kind = "window"\nlength = {length}')
        inputs = np.random.default_rng(0).normal(size=(4, length, 1)).astype(np.float32)
        rows = Dataset(inputs, np.arange(4, dtype=np.float32), (), ("a", "b", "c", "d"))
        module = workbench.train(replace(task, train=Training(epochs=1)), Splits(rows, rows, rows), quiet).module
        assert sum(weights.numel() for weights in module.parameters()) < 1_000_000

    @pytest.mark.parametrize("side", [8, 9, 32, 96])
    def test_separable_convolutions_are_lighter(self, side: int) -> None:
        inputs = np.random.default_rng(0).uniform(0, 255, (2, 3, side, side)).astype(np.float32)
        mobile, usual = (make(inputs, 10, 16).eval() for make in (networks.make_mobile_network, networks.make_image_network))
        with torch.inference_mode():
            assert mobile(torch.from_numpy(inputs)).shape == (2, 10)
        convolutions = [sum(w.numel() for w in net.parameters() if w.ndim == 4) for net in (mobile, usual)]
        assert side < 16 or convolutions[0] < convolutions[1]

    def test_an_estimate_is_in_the_targets_unit(self, tmp_path: Path) -> None:
        rng = np.random.default_rng(0)
        x = rng.normal(size=(200, 3)).astype(np.float32)
        y = (5_000 + 300 * x[:, 0]).astype(np.float32)
        rows = Dataset(x, y, (), tuple(map(str, range(200))), ("a", "b", "c"))
        task = of_kind(tmp_path, "regression", 'kind = "vector"')
        module = workbench.train(task, Splits(rows, rows, rows), quiet).module
        with torch.inference_mode():
            assert np.abs(module(torch.from_numpy(x))[:, 0].numpy() - y).mean() < 60

    def test_an_autoencoder_learns_from_normal_rows_alone(self, tmp_path: Path) -> None:
        task, splits = made(real_tasks.breast_cancer_anomalies(tmp_path, BRIEF))
        wild = splits.train.inputs.copy()
        wild[splits.train.labels == 1] *= 1e6
        other = replace(splits, train=replace(splits.train, inputs=wild))
        one, two = (workbench.train(task, s, quiet).module.state_dict() for s in (splits, other))
        assert all(torch.equal(one[name], two[name]) for name in one)


class TestOwnModule:
    def test_is_found_beside_the_task_file(self, tmp_path: Path) -> None:
        (tmp_path / "nets.py").write_text(OWN)
        task, splits = made(real_tasks.iris(tmp_path, '[train]\nmodule = "nets:small"\n'))
        trained = workbench.train(task, splits, quiet)
        assert trained.recipe == "module"
        assert quality(task, splits, trained) >= 0.9
        workbench.save_checkpoint(trained, tmp_path / "out")
        again = workbench.load_checkpoint(task, splits, tmp_path / "out")
        assert quality(task, splits, again) == quality(task, splits, trained)

    @pytest.mark.parametrize(
        ("path", "told"),
        [
            pytest.param("nets", "PACKAGE.MODULE:CALLABLE", id="no-callable"),
            pytest.param("nowhere:small", "nowhere", id="no-such-module"),
            pytest.param("nets:large", "large", id="no-such-callable"),
            pytest.param("nets:wrong", "for two rows", id="wrong-shape"),
            pytest.param("nets:number", "not a torch.nn.Module", id="no-module"),
            pytest.param("torch.nn:Linear", "for two rows|cannot be called|does not take", id="other-arguments"),
        ],
    )
    def test_one_that_does_not_fit_is_refused(self, tmp_path: Path, path: str, told: str) -> None:
        (tmp_path / "nets.py").write_text(OWN)
        task, splits = made(real_tasks.iris(tmp_path, f'[train]\nmodule = "{path}"\n'))
        with pytest.raises(BadTask, match=told) as caught:
            workbench.train(task, splits, quiet)
        assert caught.value.field == "train.module"


class TestSteering:
    def test_patience_ends_a_training_and_keeps_the_best_weights(self, tmp_path: Path) -> None:
        task, splits = made(real_tasks.wine(tmp_path, "[train]\nepochs = 400\npatience = 3\nlearning_rate = 0.03\n"))
        trained = workbench.train(task, splits, quiet)
        seen = [look.validation_loss for look in trained.looks]
        assert len(seen) < 20
        assert len(seen) - 1 - seen.index(min(seen)) == 3

    def test_without_patience_the_validation_rows_are_not_looked_at(self, tmp_path: Path) -> None:
        task, splits = made(real_tasks.wine(tmp_path, BRIEF))
        assert {look.validation_loss for look in workbench.train(task, splits, quiet).looks} == {None}

    def test_balanced_classes_count_alike(self, tmp_path: Path) -> None:
        rng = np.random.default_rng(0)
        labels = (rng.random(600) < 0.02).astype(np.int64)
        inputs = (rng.normal(size=(600, 3)) + labels[:, None] * 0.8).astype(np.float32)
        rows = Dataset(inputs, labels, ("usual", "rare"), tuple(map(str, range(600))))
        splits, task = Splits(rows, rows, rows), of_kind(tmp_path, "classification", 'kind = "vector"', BRIEF)
        balanced = replace(task, train=msgspec.structs.replace(task.train, class_weights="balanced"))
        plain, weighed = (judge(t, workbench.train(t, splits, quiet).module, rows, rows) for t in (task, balanced))
        assert weighed.per_class["rare"] > plain.per_class["rare"] + 0.2
        assert weighed.per_class["usual"] > 0.6

    def test_anomalies_are_calibrated_beyond_what_is_usual(self, tmp_path: Path) -> None:
        task, splits = made(real_tasks.breast_cancer_anomalies(tmp_path, BRIEF))
        rows, usual = training.calibration(task, splits), len(splits.train)
        assert len(rows) == usual + -(-usual // 4)
        middle = np.median(rows[:usual], axis=0)
        np.testing.assert_allclose(rows[usual:] - middle, 8 * (rows[:usual:4] - middle), rtol=1e-3, atol=1e-3)

    def test_a_search_is_seeded_and_begins_with_the_usual_plan(self, tmp_path: Path) -> None:
        task, splits = made(real_tasks.iris(tmp_path, "[train]\nepochs = 2\n[search]\ntrials = 4\n"))
        one, two = (workbench.train(task, splits, quiet) for _ in range(2))
        assert one.trials == two.trials
        assert len(one.trials) == 4
        assert (one.trials[0].learning_rate, one.trials[0].width) == (pytest.approx(0.003), 64)
        assert one.width == min(one.trials, key=lambda trial: trial.cost).width

    def test_a_search_looks_where_it_is_told(self, tmp_path: Path) -> None:
        task, splits = made(real_tasks.iris(tmp_path, "[train]\nepochs = 1\n"))
        task = replace(task, search=Search(trials=3, learning_rate=(1e-2, 2e-2), width=[4, 6]))
        trials = workbench.train(task, splits, quiet).trials
        assert all(0.01 <= trial.learning_rate <= 0.02 and trial.width in (4, 6) for trial in trials)

    def test_a_device_that_is_not_there_is_refused(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
        task, splits = made(real_tasks.iris(tmp_path, '[train]\nepochs = 1\ndevice = "cuda"\n'))
        with pytest.raises(BadTask) as caught:
            workbench.train(task, splits, quiet)
        assert caught.value.field == "train.device"


class TestParent:
    @pytest.mark.parametrize("freeze", [0, 1, 2])
    def test_frozen_layers_keep_the_parents_weights(self, tmp_path: Path, freeze: int) -> None:
        task, splits = made(real_tasks.wine(tmp_path, BRIEF + f"freeze = {freeze}\n"))
        parent = workbench.train(task, splits, quiet)
        tuned = workbench.train(task, splits, quiet, parent)
        before, after = ([p for p in trained.module.state_dict().items() if p[0].endswith("weight")] for trained in (parent, tuned))
        assert [torch.equal(a[1], b[1]) for a, b in zip(before, after, strict=True)] == [at < freeze for at in range(3)]
        assert (tuned.parent, parent.parent) == (parent.run, None)
        assert tuned.run != parent.run

    def test_freezing_everything_is_refused(self, tmp_path: Path) -> None:
        task, splits = made(real_tasks.wine(tmp_path, BRIEF + "freeze = 3\n"))
        with pytest.raises(BadTask) as caught:
            workbench.train(task, splits, quiet, workbench.train(task, splits, quiet))
        assert (caught.value.field, caught.value.limit) == ("train.freeze", 2)

    def test_another_network_is_no_parent(self, tmp_path: Path) -> None:
        (tmp_path / "a").mkdir()
        task, splits = made(real_tasks.wine(tmp_path / "a", BRIEF))
        other, its = made(real_tasks.iris(tmp_path, BRIEF))
        with pytest.raises(BadInput) as caught:
            workbench.train(other, its, quiet, workbench.train(task, splits, quiet))
        assert caught.value.field == "parent"


def numbered(count: int, **known) -> Dataset:
    labels = np.arange(count) % 3
    return Dataset(np.zeros((count, 1), np.float32), labels, ("a", "b", "c"), tuple(map(str, range(count))), **known)


class TestFolds:
    @pytest.mark.parametrize("by", ["shares", "group"])
    def test_each_row_is_judged_once(self, by: str) -> None:
        rows = numbered(60, groups=tuple(f"g{at // 5}" for at in range(60)))
        folds = cut_folds(rows, by, 4, 0)
        assert sorted(np.concatenate([held for _, held in folds])) == [*range(60)]
        assert all(sorted([*learnt, *held]) == [*range(60)] for learnt, held in folds)

    def test_each_fold_has_its_share_of_each_class(self) -> None:
        rows = numbered(60)
        assert all({*np.bincount(rows.labels[held]).tolist()} == {5} for _, held in cut_folds(rows, "shares", 4, 0))

    def test_groups_stay_whole(self) -> None:
        rows = numbered(60, groups=tuple(f"g{at // 7}" for at in range(60)))
        for learnt, held in cut_folds(rows, "group", 3, 0):
            assert not {rows.groups[at] for at in learnt} & {rows.groups[at] for at in held}

    def test_what_is_judged_comes_after_what_was_learnt(self) -> None:
        rows = numbered(50, times=np.random.default_rng(0).permutation(50).astype(float))
        for learnt, held in cut_folds(rows, "time", 4, 0):
            assert rows.times[learnt].max() < rows.times[held].min()

    @pytest.mark.parametrize(("by", "count"), [("shares", 100), ("group", 4), ("order", 60), ("shares", 1)])
    def test_too_many_are_refused(self, by: str, count: int) -> None:
        with pytest.raises(BadData) as caught:
            cut_folds(numbered(60, groups=tuple("abc" * 20)), by, count, 0)
        assert caught.value.field == "search.folds"


class TestAnswering:
    def test_the_temperature_that_made_the_logits_is_found(self) -> None:
        rng = np.random.default_rng(0)
        logits = rng.normal(0, 3, (4_000, 4))
        chances = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        labels = np.array([rng.choice(4, p=p) for p in chances])
        assert fit_temperature((2.5 * logits).astype(np.float32), labels) == pytest.approx(2.5, rel=0.06)

    @pytest.mark.parametrize("rows", [0, 1, 30])
    def test_few_rows_that_are_all_right_do_not_make_certain(self, rows: int) -> None:
        logits = np.tile(np.float32([4, 0, 0]), (rows, 1))
        assert 0.2 < fit_temperature(logits, np.zeros(rows, np.int64)) <= 1

    def test_scores_that_are_alike_are_normal(self) -> None:
        assert np.float32(fit_threshold(np.full(9, 0.3, np.float32), np.zeros(9, np.int64))) > np.float32(0.3)

    def test_a_threshold_wants_normal_rows(self) -> None:
        with pytest.raises(BadData):
            fit_threshold(np.float32([1, 2]), np.array([1, 1]))

    def test_healthy_rows_pass(self, tmp_path: Path) -> None:
        task, splits = made(real_tasks.breast_cancer_anomalies(tmp_path))
        fp32 = workbench.export_onnx(workbench.train(task, splits, quiet), workbench.input_spec(task, splits))
        output = workbench.output_spec(task, splits, fp32)
        assert isinstance(output, Anomaly)
        assert workbench.evaluate(fp32, splits.test, output).metrics["passed"] >= 0.85


class TestFoldsAreJudgedUnseen:
    def test_what_stops_a_training_is_not_what_judges_it(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Early stopping on the rows that judge would flatter every fold."""
        task = workbench.load_task(real_tasks.iris(tmp_path, BRIEF + "patience = 5\n"))
        splits, seen = workbench.read_splits(task), []
        monkeypatch.setattr(training, "fit", lambda *given: seen.append({*given[3].ids, *given[5].ids}) or fit(*given))
        monkeypatch.setattr(training, "judge", lambda *given: seen[-1].isdisjoint(given[2].ids) and {*given[3].ids} <= seen[-1])
        assert workbench.cross_validate(task, splits, 3, lambda share, told: None) == [True] * 3

    @pytest.mark.parametrize("by", ["shares", "group", "time", "order"])
    def test_rows_that_stop_are_a_part_of_their_own(self, by: str) -> None:
        rows = numbered(60, groups=tuple("abcdef" * 10), times=np.arange(60.0))
        learnt, stopping = set_aside(rows, by, 0)
        assert 5 <= len(stopping) <= 20
        assert {*learnt.ids}.isdisjoint(stopping.ids)
        if by == "group":
            assert {*learnt.groups}.isdisjoint(stopping.groups)

    def test_one_group_leaves_none(self) -> None:
        learnt, stopping = set_aside(numbered(20, groups=("a",) * 20), "group", 0)
        assert (len(learnt), len(stopping)) == (20, 0)


class TestRuns:
    def test_a_run_is_called_by_what_it_is_made_of(self) -> None:
        names = {
            run_id(*told)
            for told in [("t", "d", 0, "c"), ("t2", "d", 0, "c"), ("t", "d2", 0, "c"), ("t", "d", 1, "c"), ("t", "d", 0, "c", "p")]
        }
        assert len(names) == 5
        assert run_id("t", "d", 0, "c") == run_id("t", "d", 0, "c", None)

    def test_the_command_leaves_a_record_and_a_tracked_run(self, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
        task = real_tasks.iris(tmp_path, BRIEF + "patience = 5\n[search]\ntrials = 2\n")
        store, out = tmp_path / "runs", tmp_path / "out"
        assert run("train", task, "--out", out, "--folds", "3", "--tracking", store, "--json") == 0
        told, record = json.loads(capsys.readouterr().out), json.loads((out / "run.json").read_bytes())
        assert told["run"] == record["run"]
        assert len(record["folds"]) == 3
        assert len(record["trials"]) == 2
        (kept,) = store.glob(f"*/{record['tracked']['run_id']}")
        assert (kept / "tags" / "edgefleet.run").read_text() == record["run"]
        assert (kept / "params" / "recipe").read_text() == "vector-mlp"
        assert (kept / "artifacts" / "task.toml").read_bytes() == task.read_bytes()
        assert (kept / "metrics" / "validation_accuracy").exists()
        assert (kept / "metrics" / "validation_loss").exists()

    def test_the_same_task_leaves_the_same_weights_and_run(self, tmp_path: Path) -> None:
        task = real_tasks.iris(tmp_path, BRIEF)
        for out in ("one", "two"):
            assert run("train", task, "--out", tmp_path / out, "--no-tracking") == 0
        for file in ("weights.pt", "trained.json", "run.json"):
            assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()

    def test_a_server_that_does_not_answer_is_said_before_the_training(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
    ) -> None:
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
        task = real_tasks.iris(tmp_path, BRIEF)
        assert run("train", task, "--out", tmp_path / "out", "--tracking", "http://127.0.0.1:1") == Failed.exit_code
        assert "--no-tracking" in capsys.readouterr().err
        assert not (tmp_path / "out").exists()

    def test_what_a_tracking_address_keeps_secret_is_told_nobody(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture
    ) -> None:
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
        monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://beatrix:p%40ss@127.0.0.1:1/runs?token=t0ken")
        assert run("train", real_tasks.iris(tmp_path, BRIEF), "--out", tmp_path / "out", "--json") == Failed.exit_code
        told = capfd.readouterr()
        assert "http://127.0.0.1:1/runs" in told.err
        for secret in ("beatrix", "p%40ss", "p@ss", "t0ken"):
            assert secret not in told.err + told.out

    def test_a_record_names_the_server_without_its_secrets(self) -> None:
        assert without_secrets("https://ann:p%40ss@mlflow.example:5000/runs?token=t#f") == "https://mlflow.example:5000/runs"
        assert without_secrets("file:///var/runs") == "file:///var/runs"

    def test_a_training_that_fails_is_seen_as_failed(self, tmp_path: Path) -> None:
        run_of = open_run(str(tmp_path / "runs"), "t", lambda: NOW)
        run_of.abandon()
        (meta,) = (tmp_path / "runs").glob(f"*/{run_of.tracked.run_id}/meta.yaml")
        assert "status: 4" in meta.read_text()
