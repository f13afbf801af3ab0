"""What a task file may say, and what a wrong one is told."""

from pathlib import Path

import pytest

from fleet_contract import limits
from model_tools.errors import BadTask
from model_tools.sections import ImageShape
from model_tools.task import load_task

SECTIONS = {
    "task": '[task]\nname = "wear"',
    "input": '[input]\nkind = "vector"',
    "data": '[data]\nreader = "csv"\nfile = "rows.csv"\ntarget = "state"',
}
IMAGE = '[input]\nkind = "image"\nheight = 32\nwidth = 48\nchannels = 3'
FOLDER = '[data]\nreader = "images"\nfolder = "frames"'


def write(folder: Path, *extra: str, **sections: str) -> Path:
    path = folder / "task.toml"
    path.write_text("\n".join([*{**SECTIONS, **sections}.values(), *extra]) + "\n")
    return path


def test_a_short_file_is_filled_with_defaults(tmp_path: Path) -> None:
    task = load_task(write(tmp_path))
    assert (task.name, task.recipe, task.profiles) == ("wear", "vector-mlp", ["any"])
    assert task.resolve(task.data.file) == tmp_path / "rows.csv"
    assert task.policy.drift.windows == 2


def test_a_long_file_is_taken_at_its_word(tmp_path: Path) -> None:
    extra = [
        '[output]\nclasses = ["b", "a"]',
        "[train]\nseed = 7\nepochs = 3\nwidth = 8",
        "[gates]\nmin_accuracy = 0.9",
        "[policy.drift]\nwindow_inputs = 25",
        "[policy.sampling]\nmax_items = 40",
        "[limits]\nlatency_ms = 20",
    ]
    task = load_task(write(tmp_path, *extra, input=IMAGE, data=FOLDER))
    assert task.input == ImageShape(height=32, width=48, channels=3)
    assert (task.recipe, task.output.classes, task.train.seed, task.gates.min_accuracy) == ("image-cnn", ["b", "a"], 7, 0.9)
    assert (task.policy.drift.window_inputs, task.policy.sampling.max_items, task.limits.latency_ms) == (25, 40, 20.0)


def test_the_digest_is_that_of_the_file(tmp_path: Path) -> None:
    first = load_task(write(tmp_path)).sha256
    assert load_task(write(tmp_path)).sha256 == first
    assert load_task(write(tmp_path, "# other")).sha256 != first


WRONG = [
    pytest.param({}, "[train]\nepoch = 3", "train.epoch", "augment", id="unknown-key-names-the-allowed-ones"),
    pytest.param({}, "[trian]", "trian", "train", id="unknown-section"),
    pytest.param({}, "[policy.drift]\nwindow = 3", "policy.drift.window", "window_inputs", id="unknown-policy-key"),
    pytest.param({"input": '[input]\nkind = "vector"\nheight = 3'}, "", "input.height", "columns", id="key-of-another-input-kind"),
    pytest.param({"input": '[input]\nkind = "sound"'}, "", "input.kind", "vector", id="unknown-input-kind"),
    pytest.param({"input": "[input]\ncolumns = []"}, "", "input.kind", "lacks", id="no-input-kind"),
    pytest.param({"data": '[data]\nreader = "csv"\nfile = "rows.csv"'}, "", "data.target", "to be learnt", id="no-target"),
    pytest.param({"data": FOLDER}, "", "data.reader", "vector", id="reader-of-another-input-kind"),
    pytest.param({"task": '[task]\nname = "No Good"'}, "", "task.name", "a-z", id="name-outside-its-charset"),
    pytest.param({"task": '[task]\nname = "x"\nprofiles = ["toaster"]'}, "", "task.profiles", "any", id="unknown-profile"),
    pytest.param({"task": '[task]\nname = "x"\nkind = "poetry"'}, "", "task.kind", "classification", id="unknown-task-kind"),
    pytest.param({}, '[train]\nepochs = "many"', "train.epochs", "int", id="wrong-type"),
    pytest.param({}, "[train]\nepochs = 0", "train.epochs", ">= 1", id="out-of-range"),
    pytest.param({}, '[train]\naugment = "wild"', "train.augment", "strong", id="unknown-word"),
    pytest.param({}, '[train]\nrecipe = "image-cnn"', "train.recipe", "input.kind", id="recipe-of-another-kind"),
    pytest.param({}, "[gates]\nmin_accuracy = 1.5", "gates.min_accuracy", "<= 1", id="share-over-one"),
    pytest.param({}, "[gates]\nmin_accuracy = nan", "gates.min_accuracy", "finite", id="nan"),
    pytest.param({}, "[policy.drift]\nwindow_inputs = 0", "policy.drift.window_inputs", "between 1", id="policy-out-of-range"),
    pytest.param({}, '[output]\nclasses = ["a"]', "output.classes", "two", id="one-class"),
    pytest.param({}, '[output]\nclasses = ["a", "a"]', "output.classes", "twice", id="class-twice"),
    pytest.param({}, "[input.ranges]\nheat = [2.0, 1.0]", "input.ranges.heat", "low < high", id="range-upside-down"),
    pytest.param(
        {"input": '[input]\nkind = "vector"\ncolumns = ["a"]\nignore = ["b"]'}, "", "input.ignore", "columns", id="two-ways-to-choose"
    ),
    pytest.param({"data": SECTIONS["data"] + "\ndelimiter = '\"'"}, "", "data.delimiter", "regex", id="delimiter-that-is-a-quote"),
    pytest.param({}, '[split]\ngroup = "m"\ntime = "t"', "split.group", "not both", id="two-split-rules"),
    pytest.param({"input": IMAGE, "data": FOLDER}, '[split]\ngroup = "m"', "data.labels", "labels", id="picture-groups-without-labels"),
]


@pytest.mark.parametrize(("sections", "extra", "field", "said"), WRONG)
def test_a_wrong_file_is_told_where_and_what(tmp_path: Path, sections: dict[str, str], extra: str, field: str, said: str) -> None:
    with pytest.raises(BadTask) as caught:
        load_task(write(tmp_path, extra, **sections))
    assert caught.value.field == field
    assert said in str(caught.value)


def test_a_range_of_an_unnamed_column_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, input='[input]\nkind = "vector"\ncolumns = ["a"]\nranges = { b = [0.0, 1.0] }')
    with pytest.raises(BadTask) as caught:
        load_task(path)
    assert caught.value.field == "input.ranges.b"


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"name = ", id="not-toml"),
        pytest.param(b"\xff\xfe", id="not-utf-8"),
        pytest.param(b"#" * (limits.MAX_TASK_FILE_BYTES + 1), id="too-large"),
    ],
)
def test_what_is_no_task_file_is_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "task.toml"
    path.write_bytes(data)
    with pytest.raises(BadTask):
        load_task(path)


def test_an_absent_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadTask, match="nowhere"):
        load_task(tmp_path / "nowhere.toml")
