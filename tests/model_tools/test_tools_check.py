"""What is wrong with a data set, and what is not: each rule, the verdict, and real data that nobody made for it."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn import datasets

from model_tools import workbench
from model_tools.check.balance import find_rare, find_untested
from model_tools.check.checking import Checked
from model_tools.check.columns import find_codes, find_constant, find_far, find_ids, find_row_numbers
from model_tools.check.doubts import doubt, doubt_numbers, measure_skill, tell_doubts
from model_tools.check.drift import distance
from model_tools.check.finding import Finding, accept, gather, judge
from model_tools.check.giveaway import find_alone, find_code, find_linear
from model_tools.check.missing import Missing, find_missing
from model_tools.check.page import card_section
from model_tools.check.serial import Dependence, find_serial, find_sorted
from model_tools.check.table import lay_out
from model_tools.cli import main
from model_tools.data.dataset import Dataset
from model_tools.data.split import split
from model_tools.errors import GateFailed
from model_tools.sections import Split
from model_tools.task import load_task
from tests.fakes import real_tasks

Checks = Callable[..., Checked]
RANDOM = Split(by="shares")
DRAWN = np.random.default_rng(0)


def rows_of(inputs: np.ndarray, labels: np.ndarray, **known: object) -> Dataset:
    """Classes for whole numbers, a regression for others."""
    columns = () if inputs.ndim == 4 else tuple(f"c{at}" for at in range(inputs.shape[-1]))
    is_number = labels.dtype.kind == "f"
    classes = () if is_number else tuple(str(word) for word in np.unique(labels))
    ids = tuple(str(at + 1) for at in range(len(inputs)))
    return Dataset(inputs.astype(np.float32), labels.astype(np.float32 if is_number else np.int64), classes, ids, columns, **known)


@pytest.fixture(scope="module")
def check(tmp_path_factory: pytest.TempPathFactory) -> Checks:
    """The rules on such rows, split by such a rule."""
    task = load_task(real_tasks.iris(tmp_path_factory.mktemp("iris")))

    def checked(rows: Dataset, rule: Split = RANDOM, quick: bool = True) -> Checked:
        return workbench.check_data(replace(task, split=rule), split(rows, rule), quick)

    return checked


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def severities(checked: Checked) -> dict[str, str]:
    return {finding.code: finding.severity for finding in checked.findings}


def fields(findings: list[Finding]) -> list[tuple[str, str | None]]:
    return [(finding.code, finding.field) for finding in findings]


def test_every_code_is_documented() -> None:
    root = Path(__file__).parents[2]
    codes = {
        code for path in (root / "model_tools/check").glob("*.py") for code in re.findall(r'Finding\(\s*"([a-z-]+)"', path.read_text())
    }
    told = {
        code
        for row in (root / "docs/workbench/data-check.md").read_text().splitlines()
        for code in re.findall(r"`([a-z-]+)`", row.split("|")[1] if "|" in row else "")
    }
    assert told - {"code"} == codes


class TestVerdict:
    @pytest.mark.parametrize(
        ("found", "strict", "verdict"),
        [
            pytest.param([], False, "passed", id="nothing"),
            pytest.param(["note"], True, "passed", id="notes never count"),
            pytest.param(["note", "warning"], False, "warned", id="warning"),
            pytest.param(["warning"], True, "failed", id="strict"),
            pytest.param(["warning", "error"], False, "failed", id="error"),
        ],
    )
    def test_it_is_that_of_the_worst_finding(self, found: list[str], strict: bool, verdict: str) -> None:
        assert judge([Finding("x", severity, "") for severity in found], strict) == verdict

    def test_what_a_task_accepts_is_a_note_and_the_worst_come_first(self) -> None:
        found = [Finding("a", "error", ""), Finding("b", "warning", ""), Finding("c", "error", "")]
        assert [(f.code, f.severity) for f in accept(found, {"a"})] == [("c", "error"), ("b", "warning"), ("a", "note")]

    def test_many_of_a_kind_are_one_with_their_fields(self) -> None:
        told = gather([Finding("constant-column", "warning", "it is", f"c{at}") for at in range(60)] + [Finding("drift", "note", "")])
        assert [f.code for f in told] == ["constant-column", "drift"]
        assert told[0].examples[:2] == ("c0", "c1")
        assert "59 more" in told[0].message


class TestColumns:
    COUNTED = np.arange(100.0)
    FOLLOWS = np.arange(99)

    @pytest.mark.parametrize(
        ("column", "found"),
        [
            pytest.param(np.full(100, 3.0), ["constant-column"], id="constant"),
            pytest.param(np.r_[np.zeros(999), 1.0], ["nearly-constant-column"], id="one other value"),
            pytest.param(np.r_[np.zeros(90), np.ones(10)], [], id="a rare switch"),
            pytest.param(DRAWN.permutation(100).astype(float), ["id-like-column"], id="names of rows"),
            pytest.param(DRAWN.integers(0, 1000, 100).astype(float), [], id="whole numbers that repeat or are far apart"),
            pytest.param(np.r_[DRAWN.normal(0, 1, 99), 1e30], ["far-values"], id="1e30"),
            pytest.param(np.r_[DRAWN.normal(20, 1, 95), [-999.0] * 5], ["missing-code"], id="-999 for nothing"),
            pytest.param(DRAWN.lognormal(0, 2, 1000), [], id="a long tail"),
            pytest.param(DRAWN.normal(0, 1, 1000), [], id="normal"),
        ],
    )
    def test_each_is_told_what_is_odd(self, column: np.ndarray, found: list[str]) -> None:
        rules = (find_constant, find_ids, find_far, find_codes)
        assert [f.code for rule in rules for f in rule(column, "c", ())] == found

    @pytest.mark.parametrize(
        ("column", "follows", "told"),
        [
            pytest.param(COUNTED, FOLLOWS, True, id="a row number"),
            pytest.param(np.tile(np.arange(20.0), 5), np.setdiff1d(FOLLOWS, [19, 39, 59, 79]), True, id="one of each group"),
            pytest.param(COUNTED % 7, FOLLOWS, False, id="a week"),
            pytest.param(-COUNTED, FOLLOWS, False, id="what is left"),
        ],
    )
    def test_what_only_grows_numbers_the_rows(self, column: np.ndarray, follows: np.ndarray, told: bool) -> None:
        assert bool(find_row_numbers(column, "c", follows)) == told

    def test_copies_and_constants_are_named(self, check: Checks, rng: np.random.Generator) -> None:
        inputs = rng.normal(size=(100, 3))
        inputs[:, 2] = inputs[:, 0]
        checked = check(rows_of(inputs, rng.integers(0, 2, 100)))
        assert ("repeated-column", "c2") in fields(checked.findings)


class TestGiveaway:
    @pytest.mark.parametrize(
        ("column", "told"),
        [
            pytest.param([1, 1, 5, 5, 9, 9], True, id="a code of the classes"),
            pytest.param([1, 2, 5, 6, 9, 9], True, id="two codes of a class"),
            pytest.param([1, 1, 1, 5, 9, 9], False, id="one row is otherwise"),
            pytest.param([1, 1, 1, 1, 1, 1], False, id="constant"),
        ],
    )
    def test_few_values_of_one_class_each(self, column: list[float], told: bool) -> None:
        assert bool(find_code(np.array(column, np.float32), np.array([0, 0, 1, 1, 2, 2]), "c")) == told

    @pytest.mark.parametrize(("noise", "told"), [pytest.param(0, True, id="another unit"), pytest.param(0.1, False, id="a good sensor")])
    def test_a_target_in_another_unit(self, noise: float, told: bool) -> None:
        target = np.arange(100, dtype=np.float32)
        column = 1.8 * target + 32 + noise * 100 * np.sin(target)
        assert bool(find_linear(column, target, "c")) == told

    @pytest.mark.parametrize(
        ("skills", "told"),
        [
            pytest.param([0.7, 1.0, 0.8], ["b"], id="one that says it all"),
            pytest.param([0.7, 0.6, 0.5, 1.0, 0.995], ["d", "e"], id="two that do"),
            pytest.param([0.7, 0.98, 0.8], [], id="a good sensor"),
            pytest.param([0.93, 1.0, 0.8], [], id="an easy task"),
            pytest.param([1.0, 1.0, 0.8], [], id="most of them"),
        ],
    )
    def test_a_column_that_gives_the_target_alone(self, skills: list[float], told: list[str]) -> None:
        assert [finding.field for finding in find_alone(np.array(skills), "abcde")] == told

    @pytest.mark.parametrize("kind", ["classes", "a number"])
    def test_what_is_only_known_afterwards(self, check: Checks, rng: np.random.Generator, kind: str) -> None:
        inputs = rng.normal(size=(300, 3))
        answer = inputs[:, 0] + inputs[:, 1]
        if kind == "classes":
            answer = (answer > 0).astype(np.int64)
            inputs[:, 2] = answer * rng.uniform(100, 150, 300)
        else:
            inputs[:, 2] = np.exp(answer)
        assert [(f.severity, f.field) for f in check(rows_of(inputs, answer)).findings if f.code == "giveaway"] == [("warning", "c2")]


class TestLeakage:
    CANCER = datasets.load_breast_cancer()

    def test_exact_copies_in_the_test(self, check: Checks, rng: np.random.Generator) -> None:
        at = rng.choice(569, 80, replace=False)
        inputs, labels = (np.concatenate([all_of, all_of[at]]) for all_of in (self.CANCER.data, self.CANCER.target))
        assert severities(check(rows_of(inputs, labels)))["duplicates-across-splits"] == "error"

    def test_rows_of_few_values_repeat_by_nature(self, check: Checks, rng: np.random.Generator) -> None:
        found = severities(check(rows_of(rng.integers(0, 3, (600, 3)), rng.integers(0, 2, 600))))
        assert {found["duplicates-across-splits"], found["conflicting-labels"], found["duplicate-rows"]} == {"note"}

    def test_rows_that_are_nearly_copies(self, check: Checks, rng: np.random.Generator) -> None:
        at = rng.choice(569, 80, replace=False)
        again = self.CANCER.data[at] * (1 + rng.normal(0, 1e-4, (80, 30)))
        rows = rows_of(np.concatenate([self.CANCER.data, again]), np.concatenate([self.CANCER.target, self.CANCER.target[at]]))
        assert severities(check(rows, quick=False))["near-duplicates-across-splits"] == "error"

    def test_pictures_that_are_saved_again_brighter_and_noisier(self, check: Checks, rng: np.random.Generator) -> None:
        digits = datasets.load_digits()
        pixels = digits.data.reshape(-1, 1, 8, 8).repeat(2, 2).repeat(2, 3) * 14
        at = rng.choice(len(pixels), 300, replace=False)
        again = np.clip(pixels[at] * 1.05 + rng.normal(0, 3, pixels[at].shape), 0, 255)
        rows = rows_of(np.concatenate([pixels, again]), np.concatenate([digits.target, digits.target[at]]))
        assert severities(check(rows, quick=False))["near-duplicates-across-splits"] == "error"

    def test_windows_that_were_cut_before_the_split(self, check: Checks, rng: np.random.Generator) -> None:
        stream = np.sin(np.arange(4000) / 20) + rng.normal(0, 0.1, 4000)
        windows = np.lib.stride_tricks.sliding_window_view(stream, 32)[::8][:, :, None]
        labels = (windows.mean(axis=(1, 2)) > 0).astype(int)
        assert severities(check(rows_of(windows, labels)))["shared-samples"] == "error"
        assert "shared-samples" not in severities(check(rows_of(windows[::4], labels[::4])))

    @pytest.mark.parametrize(
        ("by", "severity"),
        [
            pytest.param("shares", "error", id="at random"),
            pytest.param("order", "note", id="its future"),
            pytest.param("group", None, id="whole"),
        ],
    )
    def test_machines_on_both_sides(self, check: Checks, rng: np.random.Generator, by: str, severity: str | None) -> None:
        groups = tuple(f"m{at % 10}" for at in range(400))
        rows = rows_of(rng.normal(size=(400, 4)), rng.integers(0, 2, 400), groups=groups)
        assert severities(check(rows, Split(by=by))).get("group-across-splits") == severity

    @pytest.mark.parametrize(
        ("by", "severity"),
        [
            pytest.param("shares", "error", id="at random"),
            pytest.param("time", None, id="the newest"),
            pytest.param("order", None, id="last"),
        ],
    )
    def test_a_test_that_is_older_than_the_training(self, check: Checks, rng: np.random.Generator, by: str, severity: str | None) -> None:
        rows = rows_of(rng.normal(size=(400, 4)), rng.integers(0, 2, 400), times=np.arange(400.0))
        assert severities(check(rows, Split(by=by))).get("time-overlap") == severity

    @pytest.mark.parametrize(
        ("found", "severity"),
        [
            pytest.param(Dependence(0.86, 3000, 0.9), "error", id="a series at random"),
            pytest.param(Dependence(0.72, 3000, 0.9), "warning", id="somewhat alike"),
            pytest.param(Dependence(0.86, 3000, 0.0), None, id="a series by order"),
            pytest.param(Dependence(0.64, 3000, 0.9), None, id="a sorted file"),
            pytest.param(Dependence(0.72, 10, 0.9), None, id="too few rows to say so"),
            pytest.param(Dependence(0.75, 3000, 0.9, pictures=True), None, id="pictures of one hand"),
        ],
    )
    def test_rows_that_depend_on_each_other(self, found: Dependence, severity: str | None) -> None:
        assert [f.severity for f in find_serial(found)] == ([severity] if severity else [])

    def test_a_file_sorted_by_a_column_is_no_series(self, check: Checks) -> None:
        inputs = self.CANCER.data[np.argsort(self.CANCER.data[:, 0])][:, [0, 4, 8, 11]]
        labels = self.CANCER.target[np.argsort(self.CANCER.data[:, 0])]
        assert "serial" not in severities(check(rows_of(inputs, labels)))

    @pytest.mark.parametrize(
        ("columns", "found"),
        [
            pytest.param([np.arange(60.0), DRAWN.normal(size=60)], [True, False], id="by one"),
            pytest.param(
                [np.tile([0.0, 1, 2], 20), np.repeat(np.arange(20.0), 3), DRAWN.normal(size=60)], [True, True, False], id="a grid"
            ),
            pytest.param([-np.arange(60.0), np.sin(np.arange(60.0))], [True, False], id="falling, and a swing"),
        ],
    )
    def test_columns_by_which_a_file_is_sorted(self, columns: list[np.ndarray], found: list[bool]) -> None:
        assert find_sorted(columns, np.arange(59)).tolist() == found

    def test_a_stream_of_rows_is_one_whatever_the_order_of_its_classes(self, check: Checks, rng: np.random.Generator) -> None:
        stream = np.cumsum(rng.normal(size=(800, 3)), axis=0)
        assert severities(check(rows_of(stream, np.arange(800) % 4)))["serial"] == "error"


class TestLabels:
    def test_equal_inputs_with_different_labels(self, check: Checks, rng: np.random.Generator) -> None:
        inputs = rng.normal(size=(100, 6))
        rows = rows_of(np.concatenate([inputs, inputs[:30]]), np.concatenate([np.zeros(100, int), np.ones(30, int)]))
        assert severities(check(rows))["conflicting-labels"] == "error"

    def test_most_of_the_labels_that_were_swapped_are_found(self, check: Checks, rng: np.random.Generator) -> None:
        digits = datasets.load_digits()
        labels, swapped = digits.target.copy(), rng.choice(1000, 40, replace=False)
        labels[swapped] = (labels[swapped] + 1 + rng.integers(0, 9, 40)) % 10
        checked = check(rows_of(digits.data[:1000], labels[:1000]), quick=False)
        (doubtful,) = (f for f in checked.findings if f.code == "doubtful-labels")
        assert {int(name) - 1 for name in doubtful.examples} <= {*swapped.tolist()}
        assert 0.02 < doubtful.share < 0.05

    def test_labels_that_the_inputs_know_nothing_of(self, check: Checks, rng: np.random.Generator) -> None:
        checked = check(rows_of(rng.normal(size=(300, 4)), rng.integers(0, 2, 300)), quick=False)
        assert severities(checked)["no-signal"] == "warning"

    @pytest.mark.parametrize(("raw", "severity"), [pytest.param(False, "warning", id="columns"), pytest.param(True, "note", id="pictures")])
    def test_what_a_forest_sees_in_pixels_is_no_verdict(self, raw: bool, severity: str) -> None:
        assert [finding.severity for finding in tell_doubts(np.array([], object), 0.0, 100, raw)] == [severity]

    @pytest.mark.parametrize(
        ("doubted", "skill", "severity"),
        [
            pytest.param(5, 0.9, "note", id="a few"),
            pytest.param(30, 0.9, "warning", id="many"),
            pytest.param(30, 0.4, "note", id="many, for who knows little"),
        ],
    )
    def test_who_knows_little_does_not_warn(self, doubted: int, skill: float, severity: str) -> None:
        assert [finding.severity for finding in tell_doubts(np.arange(doubted).astype(object), skill, 100)] == [severity]

    def test_doubt_wants_another_class_to_be_as_likely_as_it_usually_is(self) -> None:
        shares = np.array([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8], [0.1, 0.9], [0.95, 0.05]])
        assert doubt(shares, np.array([0, 0, 1, 1, 1])).tolist() == [4]
        assert measure_skill(np.eye(2)[[0, 0, 1]], np.array([0, 0, 1])) == 1

    def test_numbers_far_from_what_is_foreseen(self, rng: np.random.Generator) -> None:
        assert doubt_numbers(np.r_[rng.normal(size=200), 40.0, -60.0]).tolist() == [201, 200]

    @pytest.mark.parametrize(
        ("counts", "weighted", "severity"),
        [
            pytest.param({"a": 50, "b": 50}, False, None, id="even"),
            pytest.param({"a": 98, "b": 2}, False, "warning", id="rare"),
            pytest.param({"a": 98, "b": 2}, True, "note", id="rare and weighted"),
        ],
    )
    def test_classes_that_are_rare(self, counts: dict[str, int], weighted: bool, severity: str | None) -> None:
        assert [f.severity for f in find_rare(counts, weighted)] == ([severity] if severity else [])

    def test_classes_that_the_test_hardly_has(self) -> None:
        found = find_untested({"a": 0, "b": 3, "c": 30}, "classification")
        assert [(f.field, f.severity) for f in found] == [("a", "warning"), ("b", "note")]


class TestDrift:
    def test_a_column_that_moved_meanwhile_is_named(self, check: Checks, rng: np.random.Generator) -> None:
        inputs = rng.normal(size=(600, 3))
        inputs[480:, 1] += 2
        checked = check(rows_of(inputs, rng.integers(0, 2, 600)), Split(by="order"), quick=False)
        (drift,) = (f for f in checked.findings if f.code == "drift")
        assert (drift.severity, drift.field, drift.examples) == ("warning", "c1", ("c1",))

    def test_pictures_that_became_darker(self, check: Checks, rng: np.random.Generator) -> None:
        pixels = rng.uniform(0, 255, (400, 1, 8, 8))
        pixels[320:] *= 0.6
        checked = check(rows_of(pixels, rng.integers(0, 2, 400)), Split(by="order"), quick=False)
        assert [f.examples for f in checked.findings if f.code == "drift"] == [("brightness", "contrast")]

    def test_classes_that_are_met_otherwise(self, check: Checks, rng: np.random.Generator) -> None:
        labels = np.r_[rng.integers(0, 2, 480), (rng.random(120) < 0.1).astype(int)]
        checked = check(rows_of(rng.normal(size=(600, 3)), labels), Split(by="order"), quick=False)
        assert severities(checked)["label-drift"] == "warning"

    def test_distance_is_that_of_kolmogorov_and_smirnov(self, rng: np.random.Generator) -> None:
        from scipy.stats import ks_2samp

        one, other = rng.normal(size=50), rng.normal(0.5, 1, 70)
        assert distance(one, other) == pytest.approx(ks_2samp(one, other).statistic)


class TestMissing:
    @pytest.mark.parametrize(
        ("found", "refused", "severity"),
        [
            pytest.param(Missing(100, 0, {}), True, None, id="none"),
            pytest.param(Missing(100, 1, {"vib": 1}), True, "error", id="refused"),
            pytest.param(Missing(100, 1, {"vib": 1}), False, "note", id="left out"),
            pytest.param(Missing(100, 20, {"vib": 3, "temp": 18}), False, "warning", id="many"),
        ],
    )
    def test_what_build_would_refuse_is_an_error(self, found: Missing, refused: bool, severity: str | None) -> None:
        assert [f.severity for f in find_missing(found, refused)] == ([severity] if severity else [])


def test_rows_are_laid_out_as_they_were_measured(rng: np.random.Generator) -> None:
    rows = rows_of(rng.normal(size=(60, 2)), rng.integers(0, 2, 60))
    table = lay_out(split(rows, RANDOM, "classification"))
    assert table.ids.tolist() == [str(at + 1) for at in range(60)]
    assert np.array_equal(table.take(np.arange(60)), rows.inputs)
    assert np.array_equal(table.values(1), rows.inputs[:, 1])
    grouped = replace(rows, groups=tuple("ba"[at % 2] for at in range(60)), times=-np.arange(60.0))
    by_time = lay_out(split(grouped, RANDOM, "classification"))
    assert by_time.ids.tolist()[:2] == ["60", "58"]
    assert 29 not in by_time.follows


class TestRealData:
    """None of these is to be called a series; a random split of the weather has to be."""

    @pytest.mark.parametrize("name", ["iris", "wine", "breast_cancer", "digits", "diabetes", "digit_pictures"])
    def test_bundled_sets_do_not_leak(self, tmp_path: Path, name: str) -> None:
        _, checked = workbench.check_task(load_task(getattr(real_tasks, name)(tmp_path)))
        assert checked.verdict != "failed"
        assert {f.code for f in checked.findings if f.severity != "note"} <= {"constant-column", "reading"}

    @pytest.mark.skipif(real_tasks.missing() is not None, reason=str(real_tasks.missing()))
    @pytest.mark.parametrize(("by", "verdict"), [("shares", "failed"), ("order", "passed")])
    def test_days_of_weather_split_at_random_are_leakage(self, tmp_path: Path, by: str, verdict: str) -> None:
        _, checked = workbench.check_task(load_task(real_tasks.weather(tmp_path, by=by)))
        assert checked.verdict == verdict
        assert ("serial" in severities(checked)) == (by == "shares")

    def test_windows_of_whole_machines_are_clean(self, tmp_path: Path) -> None:
        _, checked = workbench.check_task(load_task(real_tasks.gaits(tmp_path)))
        assert {f.code for f in checked.findings if f.severity == "error"} == set()


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main([str(a) for a in arguments])
    return ended.value.code


class TestCommand:
    @pytest.fixture
    def leaking(self, tmp_path: Path) -> Path:
        """A random walk of three sensors, split at random, with a cell missing."""
        walk = np.cumsum(np.random.default_rng(3).normal(size=(200, 3)), axis=0)
        lines = [",".join([*(f"{value:.4f}" for value in row), "high" if row[0] > 0 else "low"]) for row in walk]
        lines[16] = f",{lines[16].split(',', 1)[1]}"
        (tmp_path / "rows.csv").write_text("\n".join(["a,b,c,state", *lines]) + "\n")
        body = '[task]\nname = "walk"\n[input]\nkind = "vector"\n[data]\nreader = "csv"\nfile = "rows.csv"\ntarget = "state"\n'
        (tmp_path / "task.toml").write_text(body)
        return tmp_path / "task.toml"

    def test_a_clean_set_passes_and_the_report_is_the_same_twice(self, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
        task = real_tasks.iris(tmp_path)
        assert run("data", "check", task, "--html", tmp_path / "one.html", "--json") == 0
        told = json.loads(capsys.readouterr().out)
        assert (told["verdict"], told["split_by"], told["rows"]["test"]) == ("passed", "shares", 30)
        assert run("data", "check", task, "--html", tmp_path / "two.html") == 0
        assert (tmp_path / "one.html").read_bytes() == (tmp_path / "two.html").read_bytes()
        assert b"petal length" in (tmp_path / "one.html").read_bytes()

    def test_a_leak_fails_with_the_code_of_a_gate(self, leaking: Path, capsys: pytest.CaptureFixture) -> None:
        assert run("data", "check", leaking, "--json") == 3
        told = json.loads(capsys.readouterr().out)
        errors = {f["code"]: f for f in told["findings"] if f["severity"] == "error"}
        assert {*errors} == {"serial", "missing-values"}
        assert (errors["missing-values"]["field"], errors["missing-values"]["share"]) == ("a", 0.005)

    def test_a_model_card_tells_what_a_score_may_hide(self, leaking: Path, tmp_path: Path) -> None:
        leaking.write_text(leaking.read_text() + 'missing = "skip"\n')
        task = load_task(leaking)
        told = card_section(workbench.check_data(task, workbench.read_splits(task), quick=True))
        assert "- error, serial: leakage" in told
        assert "would not be true" in told
        assert card_section(Checked("passed", (), "", "shares", {}, {})).startswith("Nothing was found")

    def test_what_the_task_accepts_does_not_count(self, leaking: Path) -> None:
        leaking.write_text(leaking.read_text() + '[check]\naccept = ["serial", "missing-values"]\n')
        assert run("data", "check", leaking) == 0

    def test_strict_fails_on_warnings(self, tmp_path: Path) -> None:
        iris, table = real_tasks.iris(tmp_path), tmp_path / "iris.csv"
        head, *lines = table.read_text().splitlines()
        table.write_text("\n".join([f"site,{head}", *(f"7,{line}" for line in lines)]))
        assert (run("data", "check", iris), run("data", "check", iris, "--strict")) == (0, 3)

    def test_bad_input_is_no_verdict(self, leaking: Path) -> None:
        leaking.with_name("rows.csv").write_text("a,state\n1,x\n2,x\n3,x\n")
        assert run("data", "check", leaking, "--html", leaking.with_name("r.html")) == 2
        assert not leaking.with_name("r.html").exists()

    @pytest.mark.parametrize("refuse", [False, True])
    def test_a_training_warns_and_refuses_where_the_task_says_so(self, leaking: Path, refuse: bool) -> None:
        from model_tools.check.checking import heed

        leaking.write_text(leaking.read_text() + f'missing = "skip"\n[check]\nrefuse = {str(refuse).lower()}\n')
        task, warnings = load_task(leaking), []
        checked = workbench.check_data(task, workbench.read_splits(task), quick=True)
        if refuse:
            with pytest.raises(GateFailed, match="serial"):
                heed(task, checked, warnings.append)
        else:
            heed(task, checked, warnings.append)
        assert any(line.startswith("warning: serial") for line in warnings)
