"""JSON lines, times in columns, recordings at their own speed, and sources of one's own."""

import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path

import pytest

from edge_agent.clock import SystemClock
from edge_agent.errors import Fatal
from edge_agent.ports import Input
from edge_agent.sources.csv_rows import CsvFormat
from edge_agent.sources.entry_point import EntryPoint, load
from edge_agent.sources.factory import open_source
from edge_agent.sources.instants import to_instant
from edge_agent.sources.json_rows import JsonFormat
from edge_agent.sources.replay import Replay
from edge_agent.sources.row_files import RowFile
from fleet_contract import limits
from fleet_contract.inputs import VectorInput, WindowInput
from tests.fakes.agent_run_world import BEGIN, FakeClock, FakeSource, vector_input

VECTOR = VectorInput(tensor="input", columns=["t", "p"], low=[0.0, 0.0], high=[9.0, 9.0])
WINDOW = WindowInput(tensor="input", columns=["t"], low=[0.0], high=[9.0], length=2, stride=2)


def drain(source: RowFile, after: str | None = None) -> list[Input]:
    """Everything there is just now."""
    found: list[Input] = []
    for taken in source.read(VECTOR, after):
        if taken is None:
            break
        found.append(taken)
    source.close()
    return found


def rows_of(path: Path, text: str, make_format: Callable = JsonFormat, time: str | None = None) -> RowFile:
    path.write_text(text)
    return RowFile(path, FakeClock(), make_format, time)


@pytest.mark.parametrize(
    ("after", "lines"), [pytest.param("3", 1, id="fewer"), pytest.param("2", 0, id="as-many"), pytest.param(None, 0, id="new")]
)
def test_a_file_with_fewer_rows_than_were_read_is_told_once(
    after: str | None, lines: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source = rows_of(tmp_path / "s.jsonl", "[1,2]\n[3,4]\n")
    with closing(source):
        list(islice(source.read(VECTOR, after), 5))
    assert [record.getMessage().partition(" ")[2] for record in caplog.records] == lines * [
        "has 2 rows, 3 were read before: was it replaced? The next is row 4"
    ]


class TestJsonLines:
    def test_objects_and_lists_count_from_one(self, tmp_path: Path) -> None:
        found = drain(rows_of(tmp_path / "s.jsonl", '{"p": 1, "t": 2}\n\n[3, 4]\n'))
        assert [(taken.id, taken.cursor, taken.values.tolist()) for taken in found] == [("1", "1", [2, 1]), ("2", "2", [3, 4])]

    def test_a_bad_line_is_told_and_passed(self, tmp_path: Path) -> None:
        bad, good = drain(rows_of(tmp_path / "s.jsonl", '{"t": 2\n[3, 4]\n'))
        assert (bad.refusal, bad.values, bad.cursor, bad.data) == ("bad-row", None, "1", b'{"t": 2\n')
        assert good.values.tolist() == [3, 4]

    def test_an_endless_line_is_one_bad_row(self, tmp_path: Path) -> None:
        found = drain(rows_of(tmp_path / "s.jsonl", "[" * (2 * limits.MAX_CSV_LINE_CHARS) + "\n[3, 4]\n"))
        assert [(row.id, row.refusal) for row in found] == [("1", "bad-row"), ("2", None)]

    def test_it_goes_on_after_its_cursor(self, tmp_path: Path) -> None:
        assert [row.id for row in drain(rows_of(tmp_path / "s.jsonl", "[1,2]\n\nbad\n[3,4]\n"), "1")] == ["2", "3"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("0", datetime(1970, 1, 1, tzinfo=UTC), id="the first second"),
        pytest.param("1767323045.25", datetime(2026, 1, 2, 3, 4, 5, 250_000, UTC), id="seconds"),
        pytest.param(" 2026-01-02 03:04:05 ", datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), id="ISO without an offset is UTC"),
        pytest.param("2026-01-02T03:04:05+02:00", datetime(2026, 1, 2, 1, 4, 5, tzinfo=UTC), id="ISO with an offset"),
        pytest.param("1e300", None, id="beyond the last year"),
        pytest.param("nan", None, id="NaN"),
        pytest.param("inf", None, id="infinity"),
        pytest.param("-1", None, id="before the first second"),
        pytest.param("0001-01-01T00:00:00+14:00", None, id="before the first year"),
        pytest.param("noon", None, id="words"),
        pytest.param("", None, id="nothing"),
    ],
)
def test_when(text: str, expected: datetime | None) -> None:
    if expected is None:
        with pytest.raises(ValueError):
            to_instant(text)
    else:
        assert to_instant(text) == expected


@pytest.mark.parametrize(
    ("make_format", "text"),
    [
        pytest.param(CsvFormat, "t,when,p\n1,1767323045,2\n1,late,2\n", id="CSV"),
        pytest.param(JsonFormat, '{"t":1,"p":2,"when":1767323045}\n{"t":1,"p":2,"when":"late"}\n', id="JSON lines"),
    ],
)
def test_a_column_may_say_when(tmp_path: Path, make_format: Callable, text: str) -> None:
    good, bad = drain(rows_of(tmp_path / "s", text, make_format, "when"))
    assert (good.at, good.values.tolist(), bad.refusal) == (datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), [1, 2], "bad-row")


def test_a_file_without_that_column_can_never_fit(tmp_path: Path) -> None:
    source = rows_of(tmp_path / "s.csv", "t,p\n1,2\n", CsvFormat, "when")
    with pytest.raises(Fatal, match="lacks the columns when"):
        drain(source)
    source.close()


class TestReplay:
    def _replay(self, speed: float) -> tuple[Replay, FakeClock, list[float]]:
        """Inputs that were taken after 1, 2 and 3 s; waiting moves the clock."""
        clock, waits = FakeClock(), []

        def wait(time_s: float) -> None:
            waits.append(time_s)
            clock.elapsed_s += time_s

        return Replay(FakeSource([vector_input(number) for number in (1, 2, 3)], ends=True), clock, speed, wait), clock, waits

    @pytest.mark.parametrize(("speed", "expected"), [(1.0, [0, 1, 2]), (4.0, [0, 0.25, 0.5]), (0.5, [0, 2, 4])])
    def test_each_comes_when_it_is_due(self, speed: float, expected: list[float]) -> None:
        replay, clock, waits = self._replay(speed)
        came = [clock.elapsed_s for taken in replay.read(VECTOR, None) if taken is not None]
        assert came == pytest.approx(expected)
        assert max(waits) <= 0.25

    def test_what_is_late_comes_at_once(self) -> None:
        replay, clock, waits = self._replay(1.0)
        stream = replay.read(VECTOR, None)
        next(stream)
        clock.elapsed_s = 100
        assert [taken.id for taken in stream] == ["2", "3"]
        assert waits == []

    def test_it_ends_with_its_close(self) -> None:
        replay = Replay(FakeSource([vector_input(1), vector_input(9_999)]), SystemClock(), 1.0)
        stream = replay.read(VECTOR, None)
        next(stream)
        replay.close()
        assert list(stream) == []

    def test_at_the_speed_of_the_file(self, tmp_path: Path) -> None:
        (tmp_path / "s.csv").write_text("t,p,when\n1,1,0\n2,2,0.01\n3,3,0.02\n")
        source = open_source(f"csv:{tmp_path}/s.csv?time=when&speed=10", SystemClock())
        found = list(islice((taken for taken in source.read(VECTOR, None) if taken), 3))
        source.close()
        assert [taken.values[0] for taken in found] == [1, 2, 3]


def test_rows_of_a_file_become_windows(tmp_path: Path) -> None:
    (tmp_path / "s.csv").write_text("t\n1\n2\nx\n3\n4\n")
    source = open_source(f"csv:{tmp_path}/s.csv", SystemClock())
    found = list(islice((taken for taken in source.read(WINDOW, None) if taken), 2))
    assert [taken.values[:, 0].tolist() for taken in found] == [[1, 2], [3, 4]]
    assert source.losses() == {"bad-row": 1}
    source.close()


class TestEntryPoint:
    MODULE = """
from edge_agent.ports import Input
import numpy as np

def rows(clock, argument):
    for number in range(3):
        values = np.array([number, len(argument)], np.float32)
        yield Input(str(number), clock.now(), "7", "application/json", b"[]", values)

class Source:
    def __init__(self, clock, argument):
        self.closed = False
    def read(self, spec, after):
        yield Input(str(spec.columns), self.at, after, "application/json", b"[]", None, "asleep")
    at = None
    def losses(self):
        return {"asleep": 1}
    def close(self):
        self.closed = True

def broken(clock, argument):
    raise OSError("no such sensor")

number = 3
"""

    @pytest.fixture(autouse=True)
    def module(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        (tmp_path / "own_sensor.py").write_text(self.MODULE)
        monkeypatch.syspath_prepend(str(tmp_path))
        yield
        sys.modules.pop("own_sensor", None)

    def test_a_function_gives_inputs_that_cannot_be_resumed(self) -> None:
        source = open_source("python:own_sensor:rows:/dev/ttyS0", FakeClock())
        found = [taken for taken in source.read(VECTOR, None) if taken]
        source.close()
        assert [taken.values.tolist() for taken in found] == [[0, 10], [1, 10], [2, 10]]
        assert {(taken.cursor, taken.at) for taken in found} == {(None, BEGIN)}

    def test_a_class_may_be_a_whole_source(self) -> None:
        make, argument = load("own_sensor:Source:x")
        source = EntryPoint(make, FakeClock(), argument)
        (taken,) = source.read(VECTOR, "41")
        assert (taken.id, taken.cursor, source.losses()) == ("['t', 'p']", "41", {"asleep": 1})
        source.close()

    def test_one_that_fails_at_once_is_told_at_once(self) -> None:
        with pytest.raises(Fatal, match="own_sensor:broken cannot be made: no such sensor"):
            open_source("python:own_sensor:broken", FakeClock())
