"""From rows to float32 and int8 models: what they answer, and that the same rows give the same bytes."""

import logging
import warnings
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import onnx
import pytest
import torch
from sklearn.datasets import load_wine

from model_tools import workbench
from model_tools.data.dataset import Dataset, Splits
from model_tools.errors import BadData, BadInput, Failed
from model_tools.sections import Augment, ImageShape, Retraining, Training
from model_tools.task import Task, load_task
from model_tools.train import networks, pictures
from model_tools.train.plan import plan_retraining, plan_training

HEAD = '[task]\nname = "t"\n[data]\n{data}\n[input]\n{input}\n'
VECTORS = HEAD.format(data='reader = "csv"\nfile = "rows.csv"\ntarget = "y"', input='kind = "vector"')
PICTURES = HEAD.format(data='reader = "images"\nfolder = "frames"', input='kind = "image"\nheight = 16\nwidth = 24\nchannels = 3')
BRIEF = "[train]\nepochs = 3\nwidth = 4\n[retrain]\nepochs = 4\n"


def quiet(share: float, message: str) -> None:
    pass


def make_task(folder: Path, text: str) -> Task:
    (folder / "task.toml").write_text(text)
    return load_task(folder / "task.toml")


def wine() -> Splits:
    """Raw units from hundredths to thousands: what an int8 scale over all columns would flatten."""
    x, y = load_wine(return_X_y=True)
    at = np.random.default_rng(0).permutation(len(y))
    parts = (at[:120], at[120:136], at[136:])
    columns = tuple(f"c{i}" for i in range(x.shape[1]))
    return Splits(*[Dataset(x[p].astype(np.float32), y[p].astype(np.int64), ("a", "b", "c"), tuple(map(str, p)), columns) for p in parts])


def stripes(rows: int = 96) -> Splits:
    """Two classes of RGB pictures: dark to the left, or dark to the right."""
    rng = np.random.default_rng(0)
    labels = np.arange(rows) % 2
    pixels = rng.uniform(150, 250, (rows, 3, 16, 24)).astype(np.float32)
    pixels[labels == 0, :, :, :12] *= 0.3
    pixels[labels == 1, :, :, 12:] *= 0.3
    whole = Dataset(pixels, labels, ("left", "right"), tuple(map(str, range(rows))))
    return Splits(whole.select(range(64)), whole.select(range(64, 72)), whole.select(range(72, rows)))


def same_weights(one: workbench.Trained, other: workbench.Trained) -> bool:
    theirs = other.module.state_dict()
    return all(torch.equal(values, theirs[name]) for name, values in one.module.state_dict().items())


class TestVectors:
    def test_wine_is_learnt_and_survives_int8(self, tmp_path: Path) -> None:
        task, splits = make_task(tmp_path, VECTORS), wine()
        trained = workbench.train(task, splits, quiet)
        fp32 = workbench.export_onnx(trained, workbench.input_spec(task, splits))
        int8 = workbench.quantize_int8(fp32, workbench.calibration(task, splits))
        output = workbench.output_spec(task, splits, fp32)
        one, other = (workbench.evaluate(model, splits.test, output) for model in (fp32, int8))
        compared = workbench.compare(one, other, output)
        assert one.quality >= 0.95
        assert compared.quality_drop <= 0.03
        assert compared.agreement >= 0.95
        assert compared.sqnr_db > 20
        assert other.model_bytes < one.model_bytes

    def test_a_challenger_learns_a_shifted_sensor_and_keeps_the_old_world(self, tmp_path: Path) -> None:
        task, splits = make_task(tmp_path, VECTORS), wine()

        def shifted(rows: Dataset) -> Dataset:
            moved = rows.inputs.copy()
            moved[:, 6] = 6 - moved[:, 6]
            return replace(rows, inputs=moved)

        fresh, _ = workbench.split_new(task, shifted(splits.train.select(range(50))))
        spec = workbench.input_spec(task, splits, fresh)
        champion = workbench.export_onnx(workbench.train(task, splits, quiet), spec)
        challenger = workbench.export_onnx(workbench.retrain(task, splits, fresh, quiet), spec)
        moved = shifted(splits.test)
        output = workbench.output_spec(task, splits, champion)
        assert workbench.evaluate(challenger, moved, output).quality >= max(0.88, workbench.evaluate(champion, moved, output).quality)
        assert workbench.evaluate(challenger, splits.test, output).quality >= 0.9

    def test_an_outlier_and_a_constant_column_do_no_harm(self, tmp_path: Path) -> None:
        splits = wine()
        inputs = splits.train.inputs.copy()
        inputs[:, 3] = 1e6
        inputs[0, 5] = 1e8
        splits = replace(splits, train=replace(splits.train, inputs=inputs))
        task = make_task(tmp_path, VECTORS)
        fp32 = workbench.export_onnx(workbench.train(task, splits, quiet), workbench.input_spec(task, splits))
        int8 = workbench.quantize_int8(fp32, workbench.calibration(task, splits))
        output = workbench.output_spec(task, splits, fp32)
        assert workbench.evaluate(fp32, splits.train, output).quality >= 0.95
        assert workbench.evaluate(int8, splits.train, output).quality >= 0.95

    def test_few_noisy_rows_are_not_learnt_by_heart(self, tmp_path: Path) -> None:
        rng = np.random.default_rng(2)
        inputs = rng.normal(size=(1_040, 12)).astype(np.float32)
        labels = (inputs[:, 0] + inputs[:, 1] + rng.normal(0, 0.3, 1_040) > 0).astype(np.int64)
        rows = Dataset(inputs, labels, ("no", "yes"), tuple(map(str, range(1_040))))
        few = Splits(rows.select(range(40)), rows.select(range(40, 50)), rows.select(range(50, 60)))
        network = workbench.train(make_task(tmp_path, VECTORS), few, quiet).module
        answers = network(torch.from_numpy(inputs[40:])).argmax(dim=1).numpy()
        assert (answers == labels[40:]).mean() >= 0.81

    def test_a_training_that_diverges_says_so(self, tmp_path: Path) -> None:
        task, splits = make_task(tmp_path, VECTORS + BRIEF), wine()
        broken = replace(splits.train, inputs=np.full_like(splits.train.inputs, np.nan))
        with pytest.raises(Failed) as caught:
            workbench.train(task, replace(splits, train=broken), quiet)
        assert caught.value.field == "train.learning_rate"


class TestPictures:
    def test_pictures_are_learnt_and_survive_int8(self, tmp_path: Path) -> None:
        task, splits = make_task(tmp_path, PICTURES + "[train]\nepochs = 30\nwidth = 4\n"), stripes()
        fp32 = workbench.export_onnx(workbench.train(task, splits, quiet), workbench.input_spec(task, splits))
        int8 = workbench.quantize_int8(fp32, workbench.calibration(task, splits))
        output = workbench.output_spec(task, splits, fp32)
        one, other = (workbench.evaluate(model, splits.test, output) for model in (fp32, int8))
        assert (one.quality, other.quality) == (1, 1)
        assert one.per_class == {"left": 1.0, "right": 1.0}

    @pytest.mark.parametrize("size", [(8, 8), (9, 33), (64, 64), (100, 37), (224, 224)], ids=str)
    @pytest.mark.parametrize("channels", [1, 3])
    def test_a_network_for_any_size_of_picture(self, size: tuple[int, int], channels: int) -> None:
        inputs = np.random.default_rng(0).uniform(0, 255, (2, channels, *size)).astype(np.float32)
        network = networks.make_image_network(inputs, outputs=5, width=8).eval()
        with torch.inference_mode():
            assert network(torch.from_numpy(inputs)).shape == (2, 5)

    @pytest.mark.parametrize("level", ["none", "mild", "strong"])
    @pytest.mark.parametrize("shape", [(5, 1, 16, 16), (1, 3, 9, 40)], ids=str)
    def test_variations_stay_pictures(self, level: Augment, shape: tuple[int, ...]) -> None:
        batch = torch.rand(shape, generator=torch.Generator().manual_seed(0)) * 255
        varied, again = (pictures.vary(batch, level, torch.Generator().manual_seed(1)) for _ in range(2))
        assert varied.shape == batch.shape
        assert torch.equal(varied, again)
        assert 0 <= varied.min() <= varied.max() <= 255
        assert torch.equal(varied, batch) == (level == "none")


class TestBytes:
    @pytest.mark.parametrize(
        ("text", "splits"), [pytest.param(VECTORS, wine(), id="vectors"), pytest.param(PICTURES, stripes(), id="pictures")]
    )
    def test_the_same_rows_and_seed_give_the_same_bytes(self, tmp_path: Path, text: str, splits: Splits) -> None:
        task = make_task(tmp_path, text + BRIEF)

        def learn(seed: int) -> workbench.Trained:
            seeded = replace(task, train=msgspec.structs.replace(task.train, seed=seed))
            return workbench.retrain(seeded, splits, splits.validation, quiet)

        def make(trained: workbench.Trained) -> tuple[bytes, bytes]:
            fp32 = workbench.export_onnx(trained, workbench.input_spec(task, splits))
            return fp32, workbench.quantize_int8(fp32, workbench.calibration(task, splits))

        torch.manual_seed(1)
        first = learn(seed=5)
        torch.manual_seed(2)
        assert make(learn(seed=5)) == make(first)
        assert not same_weights(learn(seed=6), first)

    def test_the_graph_takes_raw_input_of_any_batch_and_tells_nothing_of_its_machine(
        self, tmp_path: Path, capfd: pytest.CaptureFixture
    ) -> None:
        task, splits = make_task(tmp_path, VECTORS + BRIEF), wine()
        levels = logging.getLogger().level
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            fp32 = workbench.export_onnx(workbench.train(task, splits, quiet), workbench.input_spec(task, splits))
            int8 = workbench.quantize_int8(fp32, workbench.calibration(task, splits))
        assert not caught
        assert capfd.readouterr() == ("", "")
        assert logging.getLogger().level == levels
        for data in (fp32, int8):
            model = onnx.load_from_string(data)
            shape = model.graph.input[0].type.tensor_type.shape
            assert model.graph.input[0].name == "input"
            assert model.graph.output[0].name == "logits"
            assert [d.dim_param or d.dim_value for d in shape.dim] == ["batch", 13]
            assert {o.domain for o in model.opset_import} <= {"", "ai.onnx.ml"}
            assert str(Path(networks.__file__).parent).encode() not in data
            assert b"site-packages" not in data

    def test_normalisation_stays_float(self, tmp_path: Path) -> None:
        task, splits = make_task(tmp_path, VECTORS + BRIEF), wine()
        fp32 = workbench.export_onnx(workbench.train(task, splits, quiet), workbench.input_spec(task, splits))
        int8 = onnx.load_from_string(workbench.quantize_int8(fp32, workbench.calibration(task, splits)))
        (first,) = [node for node in int8.graph.node if "input" in node.input]
        assert first.op_type == "Sub"

    def test_quantizing_wants_rows(self) -> None:
        with pytest.raises(BadData):
            workbench.quantize_int8(b"", np.empty((0, 3), np.float32))


class TestCheckpoint:
    def test_a_trained_model_comes_back(self, tmp_path: Path) -> None:
        task, splits = make_task(tmp_path, VECTORS + BRIEF), wine()
        trained = workbench.train(task, splits, quiet)
        workbench.save_checkpoint(trained, tmp_path / "out")
        again = workbench.load_checkpoint(task, splits, tmp_path / "out")
        assert same_weights(again, trained)
        rows = torch.from_numpy(splits.test.inputs)
        with torch.inference_mode():
            assert torch.equal(again.module(rows), trained.module(rows))
        assert (again.recipe, again.seed, again.width, again.run) == (trained.recipe, trained.seed, trained.width, trained.run)

    @pytest.mark.parametrize("file", ["weights.pt", "trained.json"])
    @pytest.mark.parametrize("content", [None, b"", b"not a model"], ids=["absent", "empty", "torn"])
    def test_a_broken_one_is_refused(self, tmp_path: Path, file: str, content: bytes | None) -> None:
        task, splits = make_task(tmp_path, VECTORS + BRIEF), wine()
        workbench.save_checkpoint(workbench.train(task, splits, quiet), tmp_path)
        (tmp_path / file).unlink() if content is None else (tmp_path / file).write_bytes(content)
        with pytest.raises(BadInput):
            workbench.load_checkpoint(task, splits, tmp_path)

    def test_one_of_another_task_file_is_refused(self, tmp_path: Path) -> None:
        task, splits = make_task(tmp_path, VECTORS + BRIEF), wine()
        workbench.save_checkpoint(workbench.train(task, splits, quiet), tmp_path)
        with pytest.raises(BadInput, match="changed"):
            workbench.load_checkpoint(make_task(tmp_path, VECTORS + BRIEF + "# other\n"), splits, tmp_path)


class TestPlan:
    @pytest.mark.parametrize(
        ("wish", "rows", "steps", "batch"),
        [
            pytest.param(Training(epochs=3), 100, 6, 64, id="as-wished"),
            pytest.param(Training(), 1_000, 937, 64, id="follows-the-data"),
            pytest.param(Training(), 30, 600, 30, id="few-rows-get-enough-steps"),
            pytest.param(Training(), 10_000_000, 20_000, 64, id="many-rows-end"),
        ],
    )
    def test_training(self, tmp_path: Path, wish: Training, rows: int, steps: int, batch: int) -> None:
        plan = plan_training(replace(make_task(tmp_path, VECTORS), train=wish), rows)
        assert (plan.steps, plan.batch, plan.new_share) == (steps, batch, 0)

    @pytest.mark.parametrize(("side", "batch"), [(64, 64), (256, 64), (512, 16), (1024, 4)])
    def test_large_pictures_come_in_small_batches(self, tmp_path: Path, side: int, batch: int) -> None:
        shape = ImageShape(height=side, width=side, channels=3)
        assert plan_training(replace(make_task(tmp_path, VECTORS), input=shape), 100).batch == batch

    @pytest.mark.parametrize(
        ("wish", "seed", "augment"),
        [
            pytest.param(Retraining(), 4, "strong", id="seed-of-training"),
            pytest.param(Retraining(seed=9, augment="mild"), 9, "mild", id="its-own"),
        ],
    )
    def test_retraining(self, tmp_path: Path, wish: Retraining, seed: int, augment: Augment) -> None:
        task = replace(make_task(tmp_path, VECTORS), train=Training(seed=4), retrain=wish)
        plan = plan_retraining(task, 100, 20)
        assert (plan.seed, plan.augment, plan.new_share) == (seed, augment, 0.3)

    def test_too_few_new_labels_are_refused(self, tmp_path: Path) -> None:
        task, splits = make_task(tmp_path, VECTORS), wine()
        with pytest.raises(BadData):
            workbench.split_new(task, splits.train.select([0]))
