"""Windows of a stream: by count and by time, over gaps and disorder, and where a restart reads on."""

import json
from collections.abc import Iterator, Sequence
from datetime import timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.ports import Input
from edge_agent.sources.windowed import Windowed
from edge_agent.sources.windows import Sample, Window, Windows
from fleet_contract.inputs import InputSpec, VectorInput, WindowInput
from fleet_contract.signature import row_shape
from tests.fakes.agent_run_world import BEGIN, FakeSource


def by_count(length: int, stride: int, gap_s: float | None = None, *, flat: bool = False) -> WindowInput:
    return WindowInput(tensor="x", columns=["v"], low=[-1e9], high=[1e9], length=length, stride=stride, gap_s=gap_s, flat=flat)


def by_time(length: int, stride: int, period_s: float, gap_s: float | None = None) -> WindowInput:
    return WindowInput(
        tensor="x", columns=["v"], low=[-1e9], high=[1e9], length=length, stride=stride, by="time", period_s=period_s, gap_s=gap_s
    )


def windows_of(windows: Windows, times: Sequence[float]) -> list[Window]:
    """Of samples whose value is their number."""
    samples = [Sample(at_s, np.array([float(number)]), str(number - 1), str(number)) for number, at_s in enumerate(times, 1)]
    return [window for sample in samples for window in windows.add(sample)]


def values_of(found: Sequence[Window]) -> list[list[float]]:
    return [window.values[:, 0].tolist() for window in found]


TEN = [float(second) for second in range(10)]


@pytest.mark.parametrize(
    ("spec", "times", "expected"),
    [
        pytest.param(by_count(4, 4), TEN, [[1, 2, 3, 4], [5, 6, 7, 8]], id="by count, side by side"),
        pytest.param(by_count(4, 2), TEN, [[1, 2, 3, 4], [3, 4, 5, 6], [5, 6, 7, 8], [7, 8, 9, 10]], id="by count, overlapping"),
        pytest.param(by_count(2, 4), TEN, [[1, 2], [5, 6], [9, 10]], id="by count, apart"),
        pytest.param(by_count(1, 1), TEN[:3], [[1], [2], [3]], id="by count, single samples"),
        pytest.param(by_count(3, 3), [0, 0, 0], [[1, 2, 3]], id="by count, one moment"),
        pytest.param(by_time(3, 3, 1.0), TEN[:6], [[1, 2, 3], [4, 5, 6]], id="by time, as it comes"),
        pytest.param(by_time(3, 3, 0.5), [0, 1, 2, 3], [[1, 1, 2], [2, 3, 3]], id="by time, twice as dense"),
        pytest.param(by_time(3, 3, 2.0), TEN, [[1, 3, 5]], id="by time, every other one"),
        pytest.param(by_time(4, 4, 1.0), [0, 1, 3, 4], [[1, 2, 2, 3]], id="by time, a missing one is the one before it"),
        pytest.param(by_time(3, 3, 1.0), [0, 0.9, 2.1], [[1, 2, 2]], id="by time, not exactly on the grid"),
        pytest.param(by_time(2, 1, 1.0), [0, 1, 2.001, 2.999], [[1, 2], [2, 3], [3, 4]], id="by time, rounded times stand on the grid"),
    ],
)
def test_windows(spec: WindowInput, times: Sequence[float], expected: list[list[float]]) -> None:
    windows = Windows(spec)
    assert values_of(windows_of(windows, times)) == expected
    assert not windows.lost


@pytest.mark.parametrize(
    ("spec", "times", "expected", "lost"),
    [
        pytest.param(by_count(3, 3, 5.0), [0, 1, 9, 10, 11], [[3, 4, 5]], {"gap": 1}, id="a pause gives the open window up"),
        pytest.param(
            by_count(3, 3, 5.0), [0, 1, 2, 9, 10, 11], [[1, 2, 3], [4, 5, 6]], {"gap": 0}, id="a pause between windows costs nothing"
        ),
        pytest.param(by_count(3, 1, 5.0), [0, 1, 2, 9, 10, 11], [[1, 2, 3], [4, 5, 6]], {"gap": 0}, id="nor one that every sample was in"),
        pytest.param(by_count(3, 3), [0, 1, 900], [[1, 2, 3]], {}, id="by count any pause, without a bound"),
        pytest.param(by_count(3, 3), [0, 2, 1, 3], [[1, 2, 4]], {"out-of-order": 1}, id="a late sample is refused"),
        pytest.param(by_count(2, 2), [9, 0, 1, 2], [[3, 4]], {"out-of-order": 2, "gap": 1}, id="a clock that has stepped begins anew"),
        pytest.param(by_time(3, 3, 1.0), [0, 1, 1, 2], [[1, 2, 4]], {"out-of-order": 1}, id="by time the same moment is no later"),
        pytest.param(by_time(3, 3, 1.0, 1.5), [0, 1, 3, 4, 5], [[3, 4, 5]], {"gap": 1}, id="by time a pause begins a new grid"),
        pytest.param(by_time(2, 2, 1.0), [0, 9e12], [], {"gap": 1}, id="by time, a pause longer than a window is never filled up"),
    ],
)
def test_gaps_and_disorder_are_counted(spec: WindowInput, times: Sequence[float], expected: list, lost: dict) -> None:
    windows = Windows(spec)
    assert values_of(windows_of(windows, times)) == expected
    assert dict(windows.lost) == lost


def test_the_first_window_behind_a_gap_does_not_follow() -> None:
    found = windows_of(Windows(by_count(2, 2, 5.0)), [0, 1, 2, 99, 100, 101, 102])
    assert [window.follows for window in found] == [True, False, True]


@given(st.integers(1, 6), st.integers(1, 9), st.integers(0, 60))
def test_by_count_is_slicing(length: int, stride: int, count: int) -> None:
    found = values_of(windows_of(Windows(by_count(length, stride)), [float(at) for at in range(count)]))
    expected = [list(range(at + 1, at + length + 1)) for at in range(0, count - length + 1, stride)]
    assert found == expected


@given(st.integers(1, 5), st.integers(1, 7), st.lists(st.integers(1, 40), min_size=1, max_size=60))
def test_by_time_is_the_newest_sample_not_later(length: int, stride: int, pauses: list[int]) -> None:
    """Held against the definition, in tenths of a period."""
    times = (np.cumsum([0, *(min(pause, 10 * length) for pause in pauses)]) / 10).tolist()
    found = values_of(windows_of(Windows(by_time(length, stride, 1.0)), times))
    grid = [max(number for number, at in enumerate(times, 1) if at <= point + 1e-6) for point in range(int(times[-1] + 1e-6) + 1)]
    assert found == [grid[at : at + length] for at in range(0, len(grid) - length + 1, stride)]


class RowSource(FakeSource):
    """Rows 1, 2, 3 ... of one column."""

    def __init__(self, count: int, refused: Sequence[int] = (), broken: Sequence[int] = ()) -> None:
        super().__init__([self._row(n, n in refused, n not in broken) for n in range(1, count + 1)], ends=True)

    @staticmethod
    def _row(number: int, is_refused: bool, follows: bool) -> Input:
        values = None if is_refused else np.array([number], np.float32)
        refusal = "bad-row" if is_refused else None
        at = BEGIN + timedelta(seconds=number)
        return Input(str(number), at, str(number), "application/json", b"[]", values, refusal, follows)


def read(source: Windowed, spec: InputSpec, after: str | None = None) -> Iterator[Input]:
    return (taken for taken in source.read(spec, after) if taken is not None)


@pytest.mark.parametrize("flat", [False, True], ids=["columns", "flat"])
def test_a_window_is_an_input_of_the_wanted_shape(flat: bool) -> None:
    spec = by_count(4, 4, flat=flat)
    (taken,) = read(Windowed(RowSource(5)), spec)
    assert (taken.values.shape, taken.values.dtype) == (row_shape(spec), np.float32)
    assert (taken.id, taken.at, taken.media_type) == ("4", BEGIN + timedelta(seconds=4), "application/json")
    assert np.array_equal(np.array(json.loads(taken.data)), taken.values)


@pytest.mark.parametrize(("length", "stride"), [(4, 4), (4, 1), (5, 2), (1, 1)])
def test_a_restart_behind_any_window_goes_on_with_the_next(length: int, stride: int) -> None:
    spec = by_count(length, stride)
    whole = list(read(Windowed(RowSource(23)), spec))
    for number, taken in enumerate(whole, 1):
        rest = list(read(Windowed(RowSource(23)), spec, taken.cursor))
        assert [(w.id, w.values.tolist()) for w in rest] == [(w.id, w.values.tolist()) for w in whole[number:]]


def test_rows_that_cannot_be_read_are_losses() -> None:
    source = Windowed(RowSource(7, refused=[2]))
    assert [taken.values[:, 0].tolist() for taken in read(source, by_count(3, 3))] == [[3, 4, 5]]
    assert source.losses() == {"bad-row": 1, "gap": 1}
    assert source.losses() == {}


def test_a_stream_that_lost_something_begins_a_new_window() -> None:
    source = Windowed(RowSource(8, broken=[3]))
    found = list(read(source, by_count(3, 3)))
    assert [taken.values[:, 0].tolist() for taken in found] == [[3, 4, 5], [6, 7, 8]]
    assert [taken.follows for taken in found] == [False, True]
    assert source.losses() == {"gap": 1}


def test_by_time_a_lost_row_is_bridged() -> None:
    source = Windowed(RowSource(6, refused=[2]))
    assert [taken.values[:, 0].tolist() for taken in read(source, by_time(3, 3, 1.0))] == [[1, 1, 3], [4, 5, 6]]
    assert source.losses() == {"bad-row": 1}


def test_a_model_of_single_rows_gets_the_rows_untouched() -> None:
    source = RowSource(3, refused=[2])
    spec = VectorInput(tensor="x", columns=["v"], low=[0.0], high=[9.0])
    assert list(read(Windowed(source), spec)) == source.inputs
