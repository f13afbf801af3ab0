"""Joining and thinning columns is the same as joining and thinning the results."""

from datetime import UTC, datetime, timedelta

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet_contract import column_edits, columns
from fleet_contract.messages import Result

BEGIN = datetime(2026, 1, 2, tzinfo=UTC)

RESULTS = st.builds(
    Result,
    at=st.integers(-(10**9), 10**9).map(lambda us: BEGIN + timedelta(microseconds=us)),
    bundle=st.sampled_from(["a", "b"]),
    input_id=st.sampled_from(["", "1", "été"]),
    label=st.sampled_from([None, "x", "y"]),
    value=st.sampled_from([0.0, 0.5]),
    latency_us=st.integers(0, 9),
    abstained=st.sampled_from([True, msgspec.UNSET]),
)


def packed(results: list[Result]) -> columns.ResultColumns:
    return columns.from_results(results, list(range(len(results))))


@settings(max_examples=50, deadline=None)
@given(parts=st.lists(st.lists(RESULTS, min_size=1, max_size=5), min_size=1, max_size=4))
def test_joined_columns_hold_the_rows_of_all(parts: list[list[Result]]) -> None:
    whole = column_edits.joined([packed(part) for part in parts])
    assert columns.check(whole) == sum(map(len, parts))
    assert columns.to_results(whole) == [result for part in parts for result in part]
    assert columns.sums(whole.mono_us) == [at for part in parts for at in range(len(part))]


@settings(max_examples=50, deadline=None)
@given(results=st.lists(RESULTS, min_size=1, max_size=9), first=st.integers(0, 1), step=st.integers(1, 3))
def test_picked_rows_are_those_of_the_results(results: list[Result], first: int, step: int) -> None:
    thin = column_edits.picked(packed(results), first, step)
    assert columns.check(thin) == len(results[first::step])
    assert columns.to_results(thin) == results[first::step]


def test_what_is_thinned_keeps_only_the_names_that_its_rows_have() -> None:
    rows = [Result(BEGIN, sha * 64, "f1", label, 0.5, 10) for sha, label in (("a", "yes"), ("b", "no"), ("a", "maybe"), ("c", None))]
    left = column_edits.picked(columns.from_results(rows, [0] * 4), 0, 2)
    assert (left.bundles, left.labels, columns.to_results(left)) == (["a" * 64], ["yes", "maybe"], rows[::2])
