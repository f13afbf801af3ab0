"""The same rows are the same data, whatever file they come in; and a time among the columns is seen."""

import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from model_tools.data.card import make_card
from model_tools.data.dataset import Dataset, Splits
from model_tools.data.reading import read_splits
from model_tools.data.table import to_words
from model_tools.data.times import is_clock, may_be_time
from model_tools.errors import BadData
from model_tools.task import Task, load_task
from tests.fakes import real_tasks

Rows = Sequence[tuple[float, float, str]]
ROWS: Rows = [(at / 7, float(at % 5), "worn" if at % 3 else "good") for at in range(60)]
START = datetime(2030, 1, 1, tzinfo=UTC)


def write_task(folder: Path, data: str, shape: str = 'kind = "vector"', kind: str = "classification", more: str = "") -> Task:
    (folder / "task.toml").write_text(f'[task]\nname = "t"\nkind = "{kind}"\n[input]\n{shape}\n[data]\n{data}\n{more}')
    return load_task(folder / "task.toml")


def everything(splits: Splits) -> Dataset:
    return splits.train.join(splits.validation).join(splits.test)


def by_csv(folder: Path) -> str:
    (folder / "r.csv").write_text("a,b,y\n" + "".join(f"{a!r},{b!r},{y}\n" for a, b, y in ROWS))
    return 'reader = "csv"\nfile = "r.csv"\ntarget = "y"'


def by_blanks(folder: Path) -> str:
    (folder / "r.txt").write_text("".join(f"  {a!r}\t {b!r}  {y} \n" for a, b, y in ROWS))
    return 'reader = "csv"\nfile = "r.txt"\ntarget = "y"\ndelimiter = " "\nheader = ["a", "b", "y"]'


def by_labels_file(folder: Path) -> str:
    (folder / "r.csv").write_text("".join(f"{a!r},{b!r}\n" for a, b, _ in ROWS))
    (folder / "y.csv").write_text("".join(f"{y}\n" for _, _, y in ROWS))
    return 'reader = "csv"\nfile = "r.csv"\ntarget = "y"\nlabels = "y.csv"\nheader = ["a", "b"]'


def by_titled_labels_file(folder: Path) -> str:
    told = by_labels_file(folder)
    (folder / "y.csv").write_text("y\n" + (folder / "y.csv").read_text() + "\n")
    return told


def by_parquet(folder: Path) -> str:
    table = pa.table({name: [row[at] for row in ROWS] for at, name in enumerate(("a", "b", "y"))})
    parquet.write_table(table, folder / "r.parquet", row_group_size=7)
    return 'reader = "parquet"\nfile = "r.parquet"\ntarget = "y"'


def by_coded_parquet(folder: Path) -> str:
    """Words as a dictionary, numbers as decimals and small integers."""
    words = pa.array([y for _, _, y in ROWS]).dictionary_encode()
    table = pa.table({"a": [a for a, _, _ in ROWS], "b": pa.array([int(b) for _, b, _ in ROWS], pa.int8()), "y": words})
    parquet.write_table(table, folder / "r.parquet")
    return 'reader = "parquet"\nfile = "r.parquet"\ntarget = "y"'


def by_json_lines(folder: Path) -> str:
    (folder / "r.jsonl").write_text("".join(json.dumps({"y": y, "a": a, "b": b}) + "\n" for a, b, y in ROWS))
    return 'reader = "jsonl"\nfile = "r.jsonl"\ntarget = "y"'


def by_numpy(folder: Path) -> str:
    np.savez(folder / "r.npz", x=np.array([row[:2] for row in ROWS]), y=np.array([y for _, _, y in ROWS]))
    return 'reader = "numpy"\nfile = "r.npz"'


@pytest.mark.parametrize(
    "write",
    [by_blanks, by_labels_file, by_titled_labels_file, by_parquet, by_coded_parquet, by_json_lines, by_numpy],
    ids=lambda f: f.__name__,
)
def test_every_file_of_these_rows_is_the_same_data(tmp_path: Path, write: Callable[[Path], str]) -> None:
    wanted = read_splits(write_task(tmp_path, by_csv(tmp_path)))
    found = read_splits(write_task(tmp_path, write(tmp_path)))
    assert found.sha256 == wanted.sha256
    assert everything(found).ids == everything(wanted).ids


def test_the_row_numbers_that_pandas_writes_are_no_input(tmp_path: Path) -> None:
    table = pa.table({"a": [a for a, _, _ in ROWS], "y": [y for _, _, y in ROWS], "__index_level_0__": [*range(60)]})
    parquet.write_table(table, tmp_path / "r.parquet")
    assert read_splits(write_task(tmp_path, 'reader = "parquet"\nfile = "r.parquet"\ntarget = "y"')).columns == ("a",)


@pytest.mark.parametrize(
    ("column", "words"),
    [
        pytest.param(np.array([1.0, 2.5, np.nan]), ["1", "2.5", ""], id="numbers"),
        pytest.param([" a ", "b"], ["a", "b"], id="words"),
    ],
)
def test_cells_as_words(column: object, words: list[str]) -> None:
    assert to_words(column) == words


class TestMissing:
    def test_nulls_and_absent_keys_are_left_out_where_the_task_says_so(self, tmp_path: Path) -> None:
        lines = [{"a": a, "b": b, "y": y} for a, b, y in ROWS]
        lines[3]["a"] = None
        del lines[9]["b"]
        (tmp_path / "r.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        data = 'reader = "jsonl"\nfile = "r.jsonl"\ntarget = "y"\nmissing = "skip"'
        assert sorted(everything(read_splits(write_task(tmp_path, data))).ids, key=int) == [
            str(row) for row in range(1, 61) if row not in (4, 10)
        ]
        with pytest.raises(BadData, match=r"row 4, column 'a': there is no value"):
            read_splits(write_task(tmp_path, data.replace("skip", "refuse")))

    def test_nulls_in_parquet_too(self, tmp_path: Path) -> None:
        table = pa.table({"a": [None if at == 5 else float(at) for at in range(60)], "y": [y for _, _, y in ROWS]})
        parquet.write_table(table, tmp_path / "r.parquet")
        data = 'reader = "parquet"\nfile = "r.parquet"\ntarget = "y"\nmissing = "skip"'
        assert len(everything(read_splits(write_task(tmp_path, data)))) == 59


class TestTime:
    def times(self, folder: Path, name: str, words: Sequence[str], input: str = "", more: str = "") -> Splits:
        (folder / "r.csv").write_text(f"{name},a,y\n" + "".join(f"{w},{at % 7},{'uv'[at % 2]}\n" for at, w in enumerate(words)))
        return read_splits(write_task(folder, 'reader = "csv"\nfile = "r.csv"\ntarget = "y"', f'kind = "vector"\n{input}', more=more))

    @pytest.mark.parametrize(
        ("name", "words"),
        [
            pytest.param("when", [(START + timedelta(hours=at)).isoformat() for at in range(50)], id="dates-by-what-stands-there"),
            pytest.param("Date", [f"2030/01/{at + 1:02}" for at in range(30)], id="with-slashes"),
            pytest.param("timestamp", [str(1_900_000_000 + at) for at in range(50)], id="rising-numbers-by-name"),
            pytest.param("time_s", [f"{at / 10}" for at in range(50)], id="with-a-unit"),
        ],
    )
    def test_a_column_of_times_splits_the_rows_and_is_no_input(self, tmp_path: Path, name: str, words: list[str]) -> None:
        splits = self.times(tmp_path, name, words)
        assert (splits.by, splits.columns) == ("time", ("a",))
        assert repr(name) in splits.notes[0]
        assert splits.train.times.max() < splits.validation.times.min() <= splits.validation.times.max() < splits.test.times.min()

    @pytest.mark.parametrize(
        ("name", "words", "input"),
        [
            pytest.param("time", [str(at % 9) for at in range(50)], "", id="numbers-that-fall"),
            pytest.param("level", [str(at) for at in range(50)], "", id="numbers-of-another-name"),
            pytest.param("time", [str(at) for at in range(50)], 'columns = ["time", "a"]', id="named-as-an-input"),
        ],
    )
    def test_other_columns_are_none(self, tmp_path: Path, name: str, words: list[str], input: str) -> None:
        splits = self.times(tmp_path, name, words, input)
        assert (splits.by, splits.columns, splits.notes) == ("shares", (name, "a"), ())

    def test_an_ignored_time_still_orders_the_rows(self, tmp_path: Path) -> None:
        words = [(START + timedelta(hours=at)).isoformat() for at in range(50)]
        assert self.times(tmp_path, "at", words, 'ignore = ["at"]').by == "time"

    def test_the_task_may_ask_for_another_split(self, tmp_path: Path) -> None:
        words = [(START + timedelta(hours=at)).isoformat() for at in range(50)]
        splits = self.times(tmp_path, "at", words, more='[split]\nby = "shares"')
        assert (splits.by, splits.train.times is None) == ("shares", False)

    def test_what_was_measured_at_one_moment_stays_together(self, tmp_path: Path) -> None:
        words = [(START + timedelta(hours=at // 7)).isoformat() for at in range(70)]
        parts = self.times(tmp_path, "at", words).parts
        moments = [{*part.times} for part in parts]
        assert sum(map(len, moments)) == len(set.union(*moments)) == 10

    def test_a_moment_may_hold_more_than_a_part_s_share(self, tmp_path: Path) -> None:
        words = [(START + timedelta(days=at // 20)).isoformat() for at in range(80)]
        assert [len(part) for part in self.times(tmp_path, "at", words).parts] == [40, 20, 20]

    def test_each_stream_may_have_its_own_clock(self) -> None:
        assert is_clock(["1", "2", "1", "3"], ["a", "a", "b", "b"])
        assert not is_clock(["1", "2", "1", "3"], None)
        assert not may_be_time("value", ["20300101"])


class TestAnomalies:
    def test_none_is_left_for_training(self, tmp_path: Path) -> None:
        splits = read_splits(load_task(real_tasks.breast_cancer_anomalies(tmp_path)))
        counts = [part.count()["anomaly"] for part in splits.parts]
        assert counts[0] == 0
        assert counts[2] == 2 * counts[1] - 1

    def test_without_a_target_every_row_is_normal(self, tmp_path: Path) -> None:
        data = by_csv(tmp_path).replace('\ntarget = "y"', "")
        splits = read_splits(write_task(tmp_path, data, 'kind = "vector"\nignore = ["y"]', "anomaly"))
        assert splits.columns == ("a", "b")
        assert everything(splits).count() == {"normal": 60, "anomaly": 0}


class TestGroups:
    def test_classes_are_spread_over_the_parts(self, tmp_path: Path) -> None:
        rows = "".join(f"{g},{g * 10 + at},{'rare' if g in (3, 11, 17) else 'usual'}\n" for g in range(20) for at in range(5))
        (tmp_path / "r.csv").write_text("g,a,y\n" + rows)
        data = 'reader = "csv"\nfile = "r.csv"\ntarget = "y"'
        splits = read_splits(write_task(tmp_path, data, more='[split]\ngroup = "g"'))
        assert [part.count()["rare"] for part in splits.parts] == [5, 5, 5]


class TestCard:
    def test_it_says_what_the_data_is(self, tmp_path: Path) -> None:
        task = load_task(real_tasks.wine(tmp_path))
        splits = read_splits(task)
        text = make_card(task, splits)
        assert splits.sha256 in text
        assert "| class_0 | 41 | 6 | 12 |" in text
        assert "| alcohol | 11.03 |" in text
        assert make_card(task, read_splits(task)) == text

    @pytest.mark.parametrize("write", [real_tasks.diabetes, real_tasks.gaits, real_tasks.digit_pictures], ids=lambda f: f.__name__)
    def test_of_every_kind(self, tmp_path: Path, write: Callable[[Path], Path]) -> None:
        task = load_task(write(tmp_path))
        assert make_card(task, read_splits(task)).startswith("# Data of ")
