"""Which numbers of a stream are stored: runs that say exactly what a set of numbers would."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet_server.domain import coverage
from fleet_server.domain.coverage import Coverage, Run

RUNS = st.builds(
    lambda first, count, stride: Run(first, first + (count - 1) * stride, stride),
    st.integers(0, 40),
    st.integers(2, 8),
    st.sampled_from([1, 1, 1, 2, 4]),
) | st.builds(lambda first: Run(first, first), st.integers(0, 40))


def covered(some: Coverage) -> set[int]:
    return {number for run in some.runs for number in run.numbers}


@given(st.lists(RUNS, max_size=12), st.integers(0, 50), st.integers(0, 50))
def test_runs_say_what_a_set_of_numbers_would(runs: list[Run], low: int, high: int) -> None:
    whole, numbers = Coverage(), set()
    for run in runs:
        assert whole.missing(run) == [number for number in run.numbers if number not in numbers]
        whole = whole.plus(run)
        numbers |= set(run.numbers)
    assert covered(whole) == numbers
    assert all(before.last < after.first for before, after in zip(whole.runs, whole.runs[1:], strict=False))
    assert Coverage.load(whole.dump()) == whole
    assert whole.below(high) == len([number for number in numbers if number < high])
    assert whole.first_hole(low, high) == next((number for number in range(low, high) if number not in numbers), None)
    assert covered(whole.closed_below(high)) == numbers | set(range(high))


@pytest.mark.parametrize(
    ("runs", "kept"),
    [
        pytest.param([Run(0, 99), Run(100, 199)], (Run(0, 199),), id="one after the other"),
        pytest.param([Run(100, 199), Run(0, 99)], (Run(0, 199),), id="the later one first"),
        pytest.param([Run(0, 99), Run(200, 299), Run(100, 199)], (Run(0, 299),), id="a hole is filled"),
        pytest.param([Run(0, 198, 2), Run(200, 398, 2)], (Run(0, 398, 2),), id="thinned alike"),
        pytest.param([Run(0, 198, 2), Run(199, 298)], (Run(0, 198, 2), Run(199, 298)), id="thinned, then not"),
    ],
)
def test_neighbours_become_one_run(runs: list[Run], kept: tuple[Run, ...]) -> None:
    whole = Coverage()
    for run in runs:
        whole = whole.plus(run)
    assert whole.runs == kept


def test_a_stream_full_of_holes_stays_bounded() -> None:
    apart = Coverage(tuple(Run(2 * at, 2 * at) for at in range(coverage.MAX_RUNS)))
    more = apart.plus(Run(10 * coverage.MAX_RUNS, 10 * coverage.MAX_RUNS))
    assert (len(more.runs), more.runs[0]) == (coverage.MAX_RUNS, Run(0, 2))


@pytest.mark.parametrize(
    ("before", "new", "kept"),
    [
        pytest.param(Run(0, 2**50), Run(2**50 - 1, 2**50 + 2, 3), (Run(0, 2**50), Run(2**50 + 2, 2**50 + 2)), id="beyond its end"),
        pytest.param(Run(0, 2**50, 2), Run(7, 8), (Run(0, 6, 2), Run(7, 7), Run(8, 2**50, 2)), id="between its numbers"),
    ],
)
def test_a_few_numbers_cost_little_however_many_are_stored_around_them(before: Run, new: Run, kept: tuple[Run, ...]) -> None:
    assert Coverage((before,)).plus(new).runs == kept
