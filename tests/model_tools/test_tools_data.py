"""From files to labelled, split rows; and what bad data is told."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from fleet_contract import limits
from fleet_contract.inputs import ImageInput
from fleet_contract.job import LabelledSample
from model_tools.data.dataset import Dataset, Splits
from model_tools.data.pictures import read_files
from model_tools.data.split import hold_out, split
from model_tools.data.times import to_times
from model_tools.errors import BadData
from model_tools.sections import Split
from model_tools.task import Task, load_task
from model_tools.workbench import input_spec, read_samples, read_splits

VECTOR = (
    '[task]\nname = "t"\n[input]\nkind = "vector"\n{input}\n[data]\nreader = "csv"\nfile = "rows.csv"\ntarget = "state"\n{data}\n{more}'
)
PICTURES = '[input]\nkind = "image"\nheight = 8\nwidth = 12\nchannels = {channels}\n[data]\nreader = "images"\nfolder = "frames"'
IMAGE = '[task]\nname = "t"\n' + PICTURES + "\n{data}\n{more}"


def vector_task(folder: Path, text: str, input: str = "", data: str = "", more: str = "") -> Task:
    (folder / "rows.csv").write_text(text)
    (folder / "task.toml").write_text(VECTOR.format(input=input, data=data, more=more))
    return load_task(folder / "task.toml")


def table(rows: int = 40, header: str = "temp,vib,state") -> str:
    return "\n".join([header, *(f"{i},{i / 7},{'worn' if i % 2 else 'good'}" for i in range(rows))]) + "\n"


def image_task(folder: Path, channels: int = 1, data: str = "", more: str = "") -> Task:
    (folder / "task.toml").write_text(IMAGE.format(channels=channels, data=data, more=more))
    return load_task(folder / "task.toml")


def paint(path: Path, colour: tuple[int, int, int]) -> None:
    """Blue, green, red."""
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), np.full((16, 24, 3), colour, np.uint8))


def folder_per_class(folder: Path) -> None:
    for i in range(12):
        paint(folder / "frames" / "red" / f"{i:02}.png", (0, 0, 200))
        paint(folder / "frames" / "blue" / f"{i:02}.png", (200, 0, 0))


def everything(splits: Splits) -> Dataset:
    return splits.train.join(splits.validation).join(splits.test)


class TestVectors:
    def test_every_row_is_in_one_part_in_raw_units(self, tmp_path: Path) -> None:
        splits = read_splits(vector_task(tmp_path, table()))
        rows = everything(splits)
        assert splits.columns == ("temp", "vib")
        assert splits.classes == ("good", "worn")
        assert sorted(rows.inputs[:, 0]) == list(range(40))
        assert sorted(rows.ids, key=int) == [str(i) for i in range(1, 41)]
        assert rows.inputs.dtype == np.float32
        assert [len(part) for part in (splits.train, splits.validation, splits.test)] == [28, 4, 8]

    def test_named_columns_are_taken_in_their_order(self, tmp_path: Path) -> None:
        splits = read_splits(vector_task(tmp_path, table(), input='columns = ["vib", "temp"]'))
        assert splits.columns == ("vib", "temp")
        assert np.allclose(splits.train.inputs[:, 0], splits.train.inputs[:, 1] / 7)

    def test_other_delimiters_bom_and_quotes(self, tmp_path: Path) -> None:
        text = "\ufeff" + table().replace(",", ";").replace("temp", '"temp"')
        assert read_splits(vector_task(tmp_path, text, data='delimiter = ";"')).columns == ("temp", "vib")

    def test_true_and_false_are_one_and_nought(self, tmp_path: Path) -> None:
        text = table().replace("\n0,", "\nTrue,").replace("\n1,", "\nfalse,")
        rows = everything(read_splits(vector_task(tmp_path, text)))
        assert {at: rows.inputs[rows.ids.index(at), 0] for at in ("1", "2")} == {"1": 1, "2": 0}

    def test_a_column_without_a_name_is_no_input(self, tmp_path: Path) -> None:
        assert read_splits(vector_task(tmp_path, table(header=",vib,state"))).columns == ("vib",)

    def test_ignored_columns_may_hold_anything(self, tmp_path: Path) -> None:
        text = table(header="temp,serial,state").replace(".", "-")
        assert read_splits(vector_task(tmp_path, text, input='ignore = ["serial"]')).columns == ("temp",)

    @pytest.mark.parametrize("cell", ["", " ", "nan", "NA", "null"])
    def test_rows_without_a_value_are_left_out_where_the_task_says_so(self, tmp_path: Path, cell: str) -> None:
        text = table().replace("\n5,", f"\n{cell},")
        rows = everything(read_splits(vector_task(tmp_path, text, data='missing = "skip"')))
        assert sorted(rows.ids, key=int) == [str(i) for i in range(1, 41) if i != 6]

    def test_a_row_without_a_value_in_an_ignored_column_stays(self, tmp_path: Path) -> None:
        text = table().replace("\n5,", "\n,")
        settings = {"input": 'ignore = ["temp"]', "data": 'missing = "skip"'}
        assert len(everything(read_splits(vector_task(tmp_path, text, **settings)))) == 40

    def test_whole_numbers_are_ordered_by_value(self, tmp_path: Path) -> None:
        text = "x,state\n" + "".join(f"{i},{i % 12}\n" for i in range(60))
        assert read_splits(vector_task(tmp_path, text)).classes == tuple(str(i) for i in range(12))

    def test_declared_classes_keep_their_order(self, tmp_path: Path) -> None:
        assert read_splits(vector_task(tmp_path, table(), more='[output]\nclasses = ["worn", "good"]')).classes == ("worn", "good")

    def test_the_same_file_gives_the_same_digest(self, tmp_path: Path) -> None:
        first, again = (read_splits(vector_task(tmp_path, table())).sha256 for _ in range(2))
        assert first == again
        assert read_splits(vector_task(tmp_path, table(41))).sha256 != first

    def test_bounds_let_drift_in_and_obey_the_task(self, tmp_path: Path) -> None:
        task = vector_task(tmp_path, table(), input="range_margin = 2.0\nranges = { vib = [-1.0, 9.0] }")
        spec = input_spec(task, read_splits(task))
        assert (spec.low, spec.high) == ([-78.0, -1.0], [117.0, 9.0])

    @pytest.mark.parametrize(
        ("text", "settings", "field", "said"),
        [
            pytest.param(table(header="temp,vib,label"), {}, "state", "label", id="no-target-column"),
            pytest.param(table(), {"input": 'columns = ["temp", "oil"]'}, "oil", "temp, vib, state", id="no-input-column"),
            pytest.param(table(), {"input": 'columns = ["state"]'}, "input.columns", "target", id="target-as-input"),
            pytest.param(table(header="temp,temp,state"), {}, "temp", "twice", id="column-twice"),
            pytest.param(table() + "1,2,\n", {}, "state", "row 41", id="empty-label"),
            pytest.param(table() + "1,2,NaN\n", {}, "state", "row 41", id="nan-label"),
            pytest.param(table() + "1,hot,good\n", {}, "vib", "row 41", id="no-number"),
            pytest.param(table() + "1,hot,good\n", {}, "vib", "input.ignore", id="no-number-what-to-do"),
            pytest.param(table() + "1,hot,good\n", {"data": 'missing = "skip"'}, "vib", "row 41", id="no-number-is-not-missing"),
            pytest.param(table() + "1,2,\n", {"data": 'missing = "skip"'}, "state", "row 41", id="a-label-is-never-optional"),
            pytest.param(table() + "1,,good\n", {}, "vib", "data.missing", id="empty-cell-what-to-do"),
            pytest.param(table(), {"input": 'ignore = ["oil"]'}, "input.ignore", "oil", id="ignored-column-is-not-there"),
            pytest.param(table() + "1,nan,good\n", {}, "vib", "row 41", id="nan-cell"),
            pytest.param(table() + "1,,good\n", {}, "vib", "row 41", id="empty-cell"),
            pytest.param(table() + "1,1e39,good\n", {}, "vib", "row 41", id="over-float32"),
            pytest.param(table() + "1,2\n", {}, "row 41", "2 cells", id="short-row"),
            pytest.param(table() + '1,"2,good\n', {}, "rows.csv", "rows.csv", id="open-quote"),
            pytest.param(table().replace("worn", "good"), {}, "state", "two classes", id="one-class-only"),
            pytest.param(table() + "1,2,broken\n", {}, "state", "'broken' has 1", id="class-with-one-row"),
            pytest.param(table(10), {}, "rows.csv", "at least 20", id="too-few-rows"),
            pytest.param(table().replace(",", ";"), {}, "state", "delimiter", id="another-delimiter"),
            pytest.param(table().replace("worn", "w" * 1001), {}, "state", "too long", id="endless-label"),
            pytest.param(table(header=",,"), {}, "rows.csv", "header", id="header-without-names"),
            pytest.param("", {}, "rows.csv", "empty", id="empty-file"),
            pytest.param(table(), {"more": '[output]\nclasses = ["good", "bad"]'}, "state", "worn", id="undeclared-class"),
        ],
    )
    def test_bad_data_is_told_where_and_what(self, tmp_path: Path, text: str, settings: dict[str, str], field: str, said: str) -> None:
        with pytest.raises(BadData) as caught:
            read_splits(vector_task(tmp_path, text, **settings))
        assert caught.value.field == field
        assert said in str(caught.value)

    def test_an_absent_file_is_named(self, tmp_path: Path) -> None:
        task = vector_task(tmp_path, "")
        (tmp_path / "rows.csv").unlink()
        with pytest.raises(BadData, match=r"rows\.csv"):
            read_splits(task)


class TestPictures:
    def test_a_folder_per_class(self, tmp_path: Path) -> None:
        folder_per_class(tmp_path)
        splits = read_splits(image_task(tmp_path, channels=3))
        assert splits.classes == ("blue", "red")
        assert splits.train.inputs.shape[1:] == (3, 8, 12)
        red = splits.train.inputs[splits.train.labels == 1]
        assert (red[:, 0] == 200).all()
        assert (red[:, 1:] == 0).all()

    def test_a_labels_file(self, tmp_path: Path) -> None:
        folder_per_class(tmp_path)
        lines = [f"{c}/{i:02}.png,{'warm' if c == 'red' else 'cold'}" for c in ("red", "blue") for i in range(12)]
        (tmp_path / "labels.csv").write_text("\n".join(["file,label", *lines]))
        splits = read_splits(image_task(tmp_path, data='labels = "labels.csv"'))
        assert splits.classes == ("cold", "warm")
        assert splits.train.inputs.shape[1:] == (1, 8, 12)

    def test_more_pictures_than_memory_are_refused_before_they_are_read(self, tmp_path: Path) -> None:
        many = ["absent.png"] * (limits.MAX_DATASET_BYTES // (4 * 1024 * 1024) + 1)
        with pytest.raises(BadData, match=r"make input\.height") as caught:
            read_files(tmp_path, many, ImageInput(tensor="input", height=1024, width=1024, channels=1))
        assert (caught.value.field, caught.value.limit) == ("input.height", limits.MAX_DATASET_BYTES)

    def test_a_corrupt_picture_is_named(self, tmp_path: Path) -> None:
        folder_per_class(tmp_path)
        whole = (tmp_path / "frames/red/03.png").read_bytes()
        (tmp_path / "frames/red/03.png").write_bytes(whole[: len(whole) // 2])
        with pytest.raises(BadData) as caught:
            read_splits(image_task(tmp_path))
        assert caught.value.field == "red/03.png"

    @pytest.mark.parametrize(
        ("line", "field"),
        [
            pytest.param("red/99.png,red", "red/99.png", id="absent-file"),
            pytest.param("red/01.png,", "label", id="no-label"),
            pytest.param("../../../etc/hostname,red", "../../../etc/hostname", id="out-of-the-folder"),
        ],
    )
    def test_bad_lines_of_a_labels_file(self, tmp_path: Path, line: str, field: str) -> None:
        folder_per_class(tmp_path)
        lines = [f"{c}/{i:02}.png,{c}" for c in ("red", "blue") for i in range(12)]
        (tmp_path / "labels.csv").write_text("\n".join(["file,label", *lines, line]))
        with pytest.raises(BadData) as caught:
            read_splits(image_task(tmp_path, data='labels = "labels.csv"'))
        assert caught.value.field == field

    def test_no_folder(self, tmp_path: Path) -> None:
        with pytest.raises(BadData) as caught:
            read_splits(image_task(tmp_path))
        assert caught.value.field == "data.folder"


def found(rows: int, classes: int = 2, groups: list[str] | None = None, times: list[str] | None = None) -> Dataset:
    labels = np.arange(rows) % classes
    names = tuple(f"c{i}" for i in range(classes))
    return Dataset(
        np.arange(rows, dtype=np.float32)[:, None],
        labels,
        names,
        tuple(map(str, range(rows))),
        ("x",),
        tuple(groups) if groups else None,
        to_times(times, "at") if times else None,
    )


class TestSplit:
    def test_each_part_has_each_class_even_of_three_rows(self) -> None:
        splits = split(found(9, classes=3), Split())
        for part in (splits.train, splits.validation, splits.test):
            assert set(part.labels) == {0, 1, 2}

    def test_groups_stay_together(self) -> None:
        groups = [f"m{i // 5}" for i in range(50)]
        splits = split(found(50, groups=groups), Split(group="machine"))
        owners = [{groups[int(i)] for i in part.ids} for part in (splits.train, splits.validation, splits.test)]
        assert sum(map(len, owners)) == len(set.union(*owners)) == 10

    @pytest.mark.parametrize(
        "times",
        [
            pytest.param([str(99 - i) for i in range(20)], id="numbers-by-value"),
            pytest.param([f"2030-01-{20 - i:02}T00:00:00Z" for i in range(20)], id="dates-by-text"),
        ],
    )
    def test_the_newest_rows_are_the_test(self, times: list[str]) -> None:
        splits = split(found(20, times=times), Split(time="at"))
        assert sorted(map(int, splits.test.ids)) == [0, 1, 2, 3]
        assert sorted(map(int, splits.validation.ids)) == [4, 5]

    @pytest.mark.parametrize(
        ("rows", "rule"),
        [
            pytest.param(found(20, groups=["a", "b"] * 10), Split(group="g"), id="two-groups"),
            pytest.param(found(20), Split(by="time"), id="no-times"),
            pytest.param(found(20), Split(by="group"), id="no-groups"),
            pytest.param(
                Dataset(np.zeros((20, 1), np.float32), np.repeat([0, 1], [14, 6]), ("a", "b"), ("",) * 20, times=np.arange(20.0)),
                Split(time="t"),
                id="a-class-that-only-the-future-has",
            ),
        ],
    )
    def test_a_split_that_cannot_be_is_refused(self, rows: Dataset, rule: Split) -> None:
        with pytest.raises(BadData):
            split(rows, rule)

    @pytest.mark.parametrize("rows", [2, 7, 20, 100])
    def test_held_out_rows_are_apart_by_class_and_the_same_each_time(self, rows: int) -> None:
        data = found(rows, classes=2)
        fit, held = hold_out(data, 0.25, seed=3)
        assert {*fit.ids} | {*held.ids} == {*data.ids}
        assert not {*fit.ids} & {*held.ids}
        assert abs(len(held) - 0.25 * rows) <= 1
        assert {*fit.labels} == {*data.labels}
        assert hold_out(data, 0.25, seed=3)[1].ids == held.ids


class TestSamples:
    def sample(self, file: str, label: str = "good", media_type: str = "application/json") -> LabelledSample:
        return LabelledSample(input_id="7", device="pump-1", file=file, media_type=media_type, label=label)

    def test_rows_come_as_the_device_wrote_them(self, tmp_path: Path) -> None:
        task = vector_task(tmp_path, table())
        (tmp_path / "a.json").write_text("[1, 2.5]")
        rows = read_samples(task, read_splits(task), tmp_path, [self.sample("a.json"), self.sample("a.json", "worn")])
        assert rows.inputs.tolist() == [[1, 2.5], [1, 2.5]]
        assert rows.labels.tolist() == [0, 1]
        assert rows.ids == ("pump-1/7", "pump-1/7")

    def test_pictures_are_decoded_as_the_task_s_own(self, tmp_path: Path) -> None:
        folder_per_class(tmp_path)
        task = image_task(tmp_path, channels=3)
        rows = read_samples(task, read_splits(task), tmp_path, [self.sample("frames/red/01.png", "red", "image/png")])
        assert rows.inputs.shape == (1, 3, 8, 12)
        assert rows.labels.tolist() == [1]

    @pytest.mark.parametrize(
        "content",
        [
            pytest.param("[1]", id="too-short"),
            pytest.param('{"a": 1}', id="no-list"),
            pytest.param('[1, "2"]', id="no-number"),
            pytest.param("[1, true]", id="a-truth"),
            pytest.param("[1, NaN]", id="nan"),
            pytest.param("[1, 1e400]", id="infinite"),
            pytest.param("[" * 10_000, id="deep"),
            pytest.param("", id="empty"),
        ],
    )
    def test_a_bad_row_names_its_sample(self, tmp_path: Path, content: str) -> None:
        task = vector_task(tmp_path, table())
        (tmp_path / "a.json").write_text(content)
        with pytest.raises(BadData) as caught:
            read_samples(task, read_splits(task), tmp_path, [self.sample("a.json")])
        assert caught.value.field == "7"

    @pytest.mark.parametrize(
        "sample",
        [
            pytest.param(("a.json", "odd"), id="unknown-label"),
            pytest.param(("../a.json", "good"), id="out-of-the-folder"),
            pytest.param(("b.json", "good"), id="absent"),
        ],
    )
    def test_a_bad_sample_is_named(self, tmp_path: Path, sample: tuple[str, str]) -> None:
        task = vector_task(tmp_path, table())
        (tmp_path / "a.json").write_text(json.dumps([1, 2]))
        with pytest.raises(BadData) as caught:
            read_samples(task, read_splits(task), tmp_path, [self.sample(*sample)])
        assert caught.value.field == "7"
