"""Windows: cut as a device cuts them, after the samples were split."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edge_agent.sources.windows import Sample, Windows
from fleet_contract.inputs import WindowInput
from fleet_contract.job import LabelledSample
from model_tools import workbench
from model_tools.data.dataset import Dataset, Splits
from model_tools.data.reading import read_splits
from model_tools.data.samples import read_samples
from model_tools.data.vectors import Read
from model_tools.data.windows import cut, split_stream, to_stream
from model_tools.errors import BadData, BadInput
from model_tools.sections import Split, WindowShape
from model_tools.task import Task, load_task
from tests.fakes import real_tasks


def stream(
    rows: int,
    groups: Sequence[str] | None = None,
    times: Sequence[float] | None = None,
    labels: Sequence[int] | None = None,
    lost: Sequence[int] = (),
) -> Read:
    """Row k (from 0) holds k. `lost` rows were left out."""
    kept = np.ones(rows, bool)
    kept[list(lost)] = False
    at = np.flatnonzero(kept)
    whole = None if times is None else np.array(times, np.float64)
    told = np.zeros(rows) if labels is None else np.array(labels)
    data = Dataset(
        np.arange(rows, dtype=np.float32)[at, None],
        told.astype(np.int64)[at],
        ("a", "b", "c"),
        tuple(str(row + 1) for row in at),
        ("x",),
        None if groups is None else tuple(groups[row] for row in at),
        None if whole is None else whole[at],
    )
    return Read(data, kept, None if groups is None else tuple(groups), whole)


def first_and_last(part: Dataset) -> list[tuple[int, int]]:
    return [(int(window[0, 0]), int(window[-1, 0])) for window in part.inputs]


def whole(read: Read, shape: WindowShape) -> Dataset:
    return cut(to_stream(read, shape), np.zeros(len(read.rows), np.int8), 0, shape)


def all_windows(splits: Splits) -> list[tuple[int, int]]:
    return sorted(pair for part in splits.parts for pair in first_and_last(part))


class TestCutting:
    def test_the_end_of_a_stream_is_the_test(self) -> None:
        splits = split_stream(stream(100), Split(), "anomaly", WindowShape(length=10, stride=5))
        assert splits.by == "order"
        assert first_and_last(splits.train) == [(at, at + 9) for at in range(0, 65, 5)][:13]
        assert first_and_last(splits.validation) == [(70, 79)]
        assert first_and_last(splits.test) == [(80, 89), (85, 94), (90, 99)]
        assert splits.test.ids == ("81", "86", "91")

    @pytest.mark.parametrize("by", ["order", "shares", "time", "group"])
    def test_no_sample_stands_in_two_parts(self, by: str) -> None:
        groups = [f"m{at // 50}" for at in range(400)]
        read = stream(400, groups, [float(at) for at in range(400)])
        splits = split_stream(read, Split(by=by), "anomaly", WindowShape(length=8, stride=4))
        owners = [{*part.inputs.ravel().tolist()} for part in splits.parts]
        assert sum(map(len, owners)) == len(set.union(*owners))

    def test_windows_end_where_a_group_ends(self) -> None:
        groups = [f"m{at % 4}" for at in range(80)]
        splits = split_stream(stream(80, groups), Split(by="group"), "anomaly", WindowShape(length=10, stride=10))
        assert all_windows(splits) == [(m + 40 * part, m + 40 * part + 36) for part in range(2) for m in range(4)]

    def test_no_window_goes_over_a_row_that_was_left_out(self) -> None:
        splits = split_stream(stream(60, lost=[7]), Split(), "anomaly", WindowShape(length=6, stride=6))
        assert first_and_last(splits.train)[:3] == [(0, 5), (8, 13), (14, 19)]

    def test_nor_over_a_pause(self) -> None:
        times = [float(at if at < 9 else at + 100) for at in range(60)]
        splits = split_stream(stream(60, times=times), Split(), "anomaly", WindowShape(length=6, stride=6, gap_s=50))
        assert first_and_last(splits.train)[:3] == [(0, 5), (9, 14), (15, 20)]

    def test_rows_out_of_order_are_put_in_order(self) -> None:
        times = [float(at ^ 1) for at in range(60)]
        splits = split_stream(stream(60, times=times), Split(), "anomaly", WindowShape(length=4, stride=4))
        assert splits.train.inputs[0, :, 0].tolist() == [1, 0, 3, 2]

    def test_streams_that_nobody_tells_apart_are_noted(self) -> None:
        read = stream(80, times=[float(at // 4) for at in range(80)])
        assert "split.group" in split_stream(read, Split(), "anomaly", WindowShape(length=4)).notes[0]
        alone = stream(80, times=[float(at) for at in range(80)])
        assert split_stream(alone, Split(), "anomaly", WindowShape(length=4)).notes == ()

    @pytest.mark.parametrize(
        ("label", "wanted"), [pytest.param("last", 0, id="last"), pytest.param("most", 1, id="most"), pytest.param("any", 2, id="any")]
    )
    def test_whose_label_a_window_has(self, label: str, wanted: int) -> None:
        labels = [1, 1, 2, 1, 0] * 20
        assert {*whole(stream(100, labels=labels), WindowShape(length=5, stride=5, label=label)).labels.tolist()} == {wanted}

    @pytest.mark.parametrize("seed", range(5))
    def test_by_time_as_a_device_does(self, seed: int) -> None:
        """The agent's own windows, sample by sample."""
        rng = np.random.default_rng(seed)
        times = np.cumsum(rng.choice([0.5, 1.0, 1.5, 30.0], 300, p=[0.3, 0.4, 0.28, 0.02]))
        shape = WindowShape(length=8, stride=3, period_s=1.0, gap_s=20.0)
        read = stream(300, times=times.tolist())
        spec = WindowInput(tensor="x", columns=["x"], low=[-1e9], high=[1e9], length=8, stride=3, by="time", period_s=1.0, gap_s=20.0)
        device = Windows(spec)
        wanted = [w.values[:, 0].tolist() for at, t in enumerate(times) for w in device.add(Sample(t, np.array([at]), None, None))]
        assert whole(read, shape).inputs[:, :, 0].tolist() == wanted


class TestTasks:
    def test_the_bundle_s_input_says_how_to_cut(self, tmp_path: Path) -> None:
        from model_tools.workbench import input_spec

        task = load_task(real_tasks.gaits(tmp_path))
        spec = input_spec(task, read_splits(task))
        assert (spec.length, spec.stride, spec.by, spec.columns) == (32, 8, "count", ["swing", "warmth"])
        assert spec.low[1] < 10 < 30 < spec.high[1]

    def test_windows_that_are_cut_already_stay_so(self, tmp_path: Path) -> None:
        task = self.archive(tmp_path, np.random.default_rng(0).normal(size=(60, 16, 3)))
        splits = read_splits(task)
        assert splits.train.inputs.shape == (42, 16, 3)
        assert (splits.by, splits.columns) == ("shares", ("x1", "x2", "x3"))

    def test_a_stream_of_samples_in_an_archive_is_cut(self, tmp_path: Path) -> None:
        task = self.archive(tmp_path, np.random.default_rng(0).normal(size=(600, 3)))
        assert read_splits(task).train.inputs.shape[1:] == (16, 3)

    def archive(self, folder: Path, inputs: np.ndarray) -> Task:
        np.savez(folder / "r.npz", x=inputs, y=np.arange(len(inputs)) // 20 % 2)
        (folder / "task.toml").write_text(
            '[task]\nname = "t"\n[input]\nkind = "window"\nlength = 16\n[data]\nreader = "numpy"\nfile = "r.npz"\n'
        )
        return load_task(folder / "task.toml")

    def test_samples_of_a_job_are_windows_too(self, tmp_path: Path) -> None:
        task = load_task(real_tasks.gaits(tmp_path))
        (tmp_path / "a.json").write_text(str([[1.0, 2.0]] * 32))
        (tmp_path / "short.json").write_text(str([[1.0, 2.0]] * 31))
        samples = [
            LabelledSample(input_id="7", device="d", file=file, media_type="application/json", label="idle")
            for file in ("a.json", "short.json")
        ]
        splits = read_splits(task)
        assert read_samples(task, splits, tmp_path, samples[:1]).inputs.shape == (1, 32, 2)
        with pytest.raises(BadData, match="not a list of 32 lists"):
            read_samples(task, splits, tmp_path, samples[1:])

    def test_a_regression_learns_from_no_word(self, tmp_path: Path) -> None:
        task = load_task(real_tasks.gaits(tmp_path, kind="regression"))
        sample = LabelledSample(input_id="7", device="d", file="a.json", media_type="application/json", label="0.5")
        with pytest.raises(BadInput, match="put new rows into its data"):
            read_samples(task, read_splits(task), tmp_path, [sample])

    def test_a_retrained_detector_lets_pass_what_is_normal_now(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        task = load_task(real_tasks.gaits(tmp_path, kind="anomaly"))
        splits = read_splits(task)
        monkeypatch.setattr(workbench, "logits", lambda model, rows: rows.mean(axis=1)[:, 1:])
        before = workbench.output_spec(task, splits, b"").threshold
        moved = replace(splits.validation, inputs=splits.validation.inputs + np.float32(5))
        odd = moved.select(np.flatnonzero(moved.labels == 1))
        assert workbench.output_spec(task, splits, b"", moved).threshold == pytest.approx(before + 5, rel=1e-3)
        assert workbench.output_spec(task, splits, b"", odd).threshold == before
        assert workbench.output_spec(task, splits, b"", replace(moved, inputs=moved.inputs - 10)).threshold == before

    @pytest.mark.parametrize(
        ("rows", "shape", "field"),
        [
            pytest.param(stream(50), WindowShape(length=20), "input.length", id="longer-than-a-part"),
            pytest.param(stream(50), WindowShape(length=5, period_s=1.0), "input.period_s", id="by-time-without-times"),
            pytest.param(stream(50), WindowShape(length=5, gap_s=1.0), "input.gap_s", id="pauses-without-times"),
            pytest.param(
                stream(3, times=[0, 1, 2e9]), WindowShape(length=2_000_000_000 // 500, period_s=1e-3), "input.length", id="endless-grid"
            ),
        ],
    )
    def test_what_cannot_be_cut(self, rows: Read, shape: WindowShape, field: str) -> None:
        with pytest.raises(BadData) as caught:
            split_stream(rows, Split(), "anomaly", shape)
        assert caught.value.field == field


@pytest.mark.skipif(real_tasks.missing() is not None, reason=str(real_tasks.missing()))
class TestRealStreams:
    def test_turbofans_whole_engines_in_each_part(self, tmp_path: Path) -> None:
        splits = read_splits(load_task(real_tasks.cmapss(tmp_path, engines=12)))
        engines = [{*part.groups} for part in splits.parts]
        assert splits.by == "group"
        assert sum(map(len, engines)) == len(set.union(*engines)) == 12
        assert splits.train.labels.dtype == np.float32
        assert splits.train.inputs.shape[1:] == (30, 24)

    def test_a_stream_with_timestamps_is_split_by_time(self, tmp_path: Path) -> None:
        splits = read_splits(load_task(real_tasks.nab(tmp_path)))
        assert (splits.by, splits.columns) == ("time", ("value",))
        assert splits.train.times.max() < splits.test.times.min()
        assert splits.test.count()["anomaly"] > 0

    def test_weather_keeps_its_order(self, tmp_path: Path) -> None:
        splits = read_splits(load_task(real_tasks.weather(tmp_path)))
        assert [int(part.ids[0]) for part in splits.parts] == [1, 12712, 14528]
        assert splits.test.ids[-1] == "18159"
