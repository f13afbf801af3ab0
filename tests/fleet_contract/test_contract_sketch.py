"""A sketch counts what came, wherever the batches were cut, and adds up with others of its grid."""

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet_contract import limits, sketch
from fleet_contract.errors import BadSketch
from fleet_contract.sketch import Condition, Feature, Grid, Reference, Sketch, Sketcher
from tests.golden import specimens

F32 = np.finfo(np.float32)


def grid_of(features: int, bins: int = 8, low: float = -4.0, high: float = 4.0) -> Grid:
    return Grid([Feature(f"f{number}", "input", low, high) for number in range(features)], bins)


def sketch_of(grid: Grid, *batches: np.ndarray) -> Sketch:
    sketcher = Sketcher(grid)
    for batch in batches:
        sketcher.add(batch)
    return sketcher.sketch()


def counted_one_by_one(values: np.ndarray, grid: Grid) -> np.ndarray:
    """The definition, spelt in float64 for a grid whose edges and bins are exact in binary."""
    counts = np.zeros((len(grid.features), grid.bins + 2), np.int64)
    for row in values:
        for number, value in enumerate(row):
            feature = grid.features[number]
            if np.isfinite(value):
                at = np.floor((float(value) - feature.low) * grid.bins / (feature.high - feature.low))
                counts[number, int(min(max(at, -1), grid.bins)) + 1] += 1
    return counts


@pytest.mark.parametrize(
    ("value", "bin_number"),
    [
        pytest.param(-4.0, 1, id="exactly at low"),
        pytest.param(np.nextafter(np.float32(-4), np.float32(-5)), 0, id="a hair below low"),
        pytest.param(4.0, 9, id="exactly at high"),
        pytest.param(3.999999, 8, id="just below high"),
        pytest.param(-3.0, 2, id="exactly at an inner edge"),
        pytest.param(0.0, 5, id="in the middle"),
        pytest.param(-0.0, 5, id="minus zero"),
        pytest.param(1e30, 9, id="huge"),
        pytest.param(-1e30, 0, id="hugely negative"),
        pytest.param(F32.max, 9, id="the largest float32"),
        pytest.param(F32.min, 0, id="the smallest float32"),
        pytest.param(F32.smallest_subnormal, 5, id="subnormal"),
    ],
)
def test_where_a_value_is_counted(value: float, bin_number: int) -> None:
    grid = grid_of(1)
    counts = sketch.counts_of(sketch_of(grid, np.array([[value]], np.float32)), grid)
    assert np.flatnonzero(counts).tolist() == [bin_number]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("rows", [1, 15, 512, 700])
def test_what_is_not_finite_is_missing_and_spoils_nothing_else(value: float, rows: int) -> None:
    grid = grid_of(3)
    values = np.ones((rows, 3), np.float32)
    values[rows // 2, 1] = value
    made = sketch_of(grid, values)
    assert made.rows == rows
    assert sketch.missing_of(made).tolist() == [0, 1, 0]
    assert sketch.counts_of(made, grid).sum(axis=1).tolist() == [rows, rows - 1, rows]
    assert sketch.moments_of(made).tolist() == [[rows, rows], [rows - 1, rows - 1], [rows, rows]]


@pytest.mark.parametrize(
    ("low", "high", "bins"),
    [
        pytest.param(0.1, 0.7, 10, id="edges that float32 rounds"),
        pytest.param(0.0, 255.0, 64, id="pixels"),
        pytest.param(0.0, 1.0, 256, id="a share"),
        pytest.param(1e6, 1e6 + 3, 7, id="far from zero"),
        pytest.param(-1e30, 1e30, 64, id="the widest"),
        pytest.param(0.0, 1e-30, 64, id="tiny"),
        pytest.param(1e9, 1e9 + 1, 64, id="edges that float32 cannot tell apart"),
    ],
)
def test_a_value_at_an_outer_edge_is_on_its_right_side(low: float, high: float, bins: int) -> None:
    grid = grid_of(1, bins, low, high)
    ends = np.array([[low], [high]], np.float32)
    counts = sketch.counts_of(sketch_of(grid, ends), grid)[0]
    apart = ends[0, 0] < ends[1, 0]
    assert counts[0] == 0 and counts[1] == (1 if apart else 2) and counts[-1] == (1 if apart else 0)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    features=st.sampled_from([1, 2, 5, 128, 700]),
    cuts=st.lists(st.integers(0, 700), max_size=5),
    rows=st.integers(0, 700),
    spoilt=st.booleans(),
)
def test_cutting_a_stream_into_batches_changes_nothing(seed: int, features: int, cuts: list[int], rows: int, spoilt: bool) -> None:
    random = np.random.default_rng(seed)
    grid = grid_of(features)
    values = (random.integers(-48, 48, (rows, features)) / 8).astype(np.float32)
    if spoilt and rows:
        values[random.integers(rows), random.integers(features)] = random.choice([np.nan, np.inf, -np.inf])
    whole, parts = sketch_of(grid, values), sketch_of(grid, *np.split(values, sorted(min(cut, rows) for cut in cuts)))
    assert parts == whole  # eighths add up exactly, in whatever order
    if rows * features < 3_000:
        assert np.array_equal(sketch.counts_of(whole, grid), counted_one_by_one(values, grid))


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), rows=st.lists(st.integers(0, 90), min_size=3, max_size=3))
def test_merging_is_counting_together_in_any_order(seed: int, rows: list[int]) -> None:
    random = np.random.default_rng(seed)
    grid = grid_of(4)
    streams = [(random.integers(-48, 48, (count, 4)) / 8).astype(np.float32) for count in rows]
    a, b, c = (sketch_of(grid, stream) for stream in streams)
    together = sketch_of(grid, *streams)
    assert sketch.merge([a, b, c], grid) == together
    assert sketch.merge([c, sketch.merge([b, a], grid)], grid) == together


@pytest.mark.parametrize(
    ("mean", "spread"),
    [pytest.param(0, 1, id="around zero"), pytest.param(101_325, 10, id="far from zero"), pytest.param(1e-6, 1e-7, id="small")],
)
def test_mean_and_spread_come_back_from_the_moments(mean: float, spread: float) -> None:
    values = np.random.default_rng(1).normal(mean, spread, (5_000, 2)).astype(np.float32)
    made = sketch_of(grid_of(2, 64, mean - 4 * spread, mean + 4 * spread), *np.array_split(values, 300))
    total, squares = sketch.moments_of(made).T / made.rows
    exact = values.astype(np.float64)
    assert total == pytest.approx(exact.mean(axis=0), abs=1e-5 * spread)
    assert np.sqrt(squares - total**2) == pytest.approx(exact.std(axis=0), rel=1e-3)


def test_moments_of_huge_values_do_not_overflow() -> None:
    made = sketch_of(grid_of(1), np.full((20, 1), 1e30, np.float32))
    assert sketch.moments_of(made)[0] == pytest.approx([2e31, 2e61], rel=1e-6)


@pytest.mark.parametrize("features", [3, 700], ids=["places in 16 bits", "places beyond 16 bits"])
def test_another_counter_changes_nothing(features: int) -> None:
    grid = grid_of(features, 128)
    values = (np.random.default_rng(3).integers(-48, 48, (900, features)) / 8).astype(np.float32)
    values[5, 1] = np.nan

    def count(places: np.ndarray, n: int) -> np.ndarray:
        assert places.dtype == np.uint16 and places.ndim == 1 and len(places) <= 131_072
        return np.bincount(places, minlength=n)

    sketcher = Sketcher(grid, count)
    sketcher.add(values)
    assert sketcher.sketch() == sketch_of(grid, values)


def test_places_may_fill_16_bits() -> None:
    grid = grid_of(1_024, 62)
    top = np.full((3, 1_024), 9, np.float32)
    assert sketch.counts_of(sketch_of(grid, top), grid)[:, -1].tolist() == [3] * 1_024


def test_a_batch_may_be_reused_after_add() -> None:
    grid, batch = grid_of(2), np.zeros((4, 2), np.float32)
    sketcher = Sketcher(grid)
    sketcher.add(batch)
    batch[:] = 99
    assert sketch.counts_of(sketcher.sketch(), grid)[:, 5].tolist() == [4, 4]


def test_a_sketch_may_be_taken_in_between_and_reset_begins_anew() -> None:
    grid = grid_of(2)
    sketcher = Sketcher(grid)
    sketcher.add(np.zeros((3, 2), np.float32))
    assert sketcher.sketch() == sketcher.sketch()
    sketcher.add(np.zeros((2, 2), np.float32))
    assert (sketcher.rows, sketcher.sketch().rows) == (5, 5)
    sketcher.reset()
    assert sketcher.sketch() == Sketcher(grid).sketch()


def test_other_number_types_are_counted_as_float32() -> None:
    grid = grid_of(2)
    expected = sketch_of(grid, np.array([[1, 2], [3, np.inf]], np.float32))
    assert sketch_of(grid, np.array([[1, 2], [3, 1e300]])) == expected
    assert sketch_of(grid, np.array([[1, 2]])) == sketch_of(grid, np.array([[1, 2]], np.float32))


@pytest.mark.parametrize("shape", [(2,), (2, 3), (2, 1), (1, 2, 2), ()])
def test_a_batch_of_another_shape_is_an_error(shape: tuple[int, ...]) -> None:
    with pytest.raises(BadSketch) as caught:
        Sketcher(grid_of(2)).add(np.zeros(shape, np.float32))
    assert caught.value.field == "batch"


@pytest.mark.parametrize(
    ("features", "bins", "field"),
    [
        pytest.param([], 8, "features", id="no feature"),
        pytest.param([Feature("a", "input", 0, 1)] * (limits.MAX_SKETCH_FEATURES + 1), 8, "features", id="too many features"),
        pytest.param([Feature("a", "input", 0, 1)], 1, "bins", id="one bin"),
        pytest.param([Feature("a", "input", 0, 1)], limits.MAX_SKETCH_BINS + 1, "bins", id="too many bins"),
        pytest.param([Feature("a", "input", 1, 1)], 8, "a", id="low at high"),
        pytest.param([Feature("a", "input", 2, 1)], 8, "a", id="low above high"),
        pytest.param([Feature("a", "input", float("nan"), 1)], 8, "a", id="low is NaN"),
        pytest.param([Feature("a", "input", 0, float("inf"))], 8, "a", id="high is infinite"),
        pytest.param([Feature("a", "input", -1e300, 1)], 8, "a", id="beyond float32"),
        pytest.param([Feature("a", "input", 0, 1e-45)], 8, "a", id="too near for float32"),
    ],
)
def test_a_grid_that_cannot_count_is_an_error(features: list[Feature], bins: int, field: str) -> None:
    with pytest.raises(BadSketch) as caught:
        Grid(features, bins)
    assert caught.value.field == field


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"counts": b"\0" * 4}, id="too few counts"),
        pytest.param({"counts": b""}, id="no counts"),
        pytest.param({"missing": b"\0"}, id="missing cut short"),
        pytest.param({"moments": b"\0" * 33}, id="moments cut short"),
        pytest.param({"rows": -1}, id="negative rows"),
    ],
)
def test_a_sketch_on_another_grid_is_an_error(change: dict) -> None:
    grid = grid_of(2)
    spoilt = msgspec.structs.replace(Sketcher(grid).sketch(), **change)
    with pytest.raises(BadSketch):
        sketch.counts_of(spoilt, grid)
    with pytest.raises(BadSketch):
        sketch.merge([spoilt], grid)


def test_merging_nothing_is_an_error() -> None:
    with pytest.raises(BadSketch):
        sketch.merge([], grid_of(2))


def test_counts_that_outgrow_32_bits_are_an_error_and_never_wrap() -> None:
    grid = grid_of(1)
    full = msgspec.structs.replace(Sketcher(grid).sketch(), counts=np.full(10, 2**32 - 1, "<u4").tobytes())
    with pytest.raises(BadSketch) as caught:
        sketch.merge([full, full], grid)
    assert caught.value.limit == 2**32 - 1


def test_a_reference_survives_the_wire() -> None:
    assert sketch.decode_reference(sketch.encode_reference(specimens.a_reference())) == specimens.a_reference()


def _reference_with(condition: Condition) -> bytes:
    return msgspec.msgpack.encode({"grid": msgspec.to_builtins(specimens.GRID), "conditions": [condition]})


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"\x81", id="cut short"),
        pytest.param(b"\x91" * 50_000, id="nested without end"),
        pytest.param(b"\0" * (limits.MAX_REFERENCE_BYTES + 1), id="too large"),
        pytest.param(_reference_with(Condition("x", ["speed"], Sketch(0, b"", b"", b""))), id="a sketch of another grid"),
        pytest.param(_reference_with(Condition("x", ["colour"], specimens.a_sketch())), id="an unknown feature"),
        pytest.param(msgspec.msgpack.encode({"grid": msgspec.to_builtins(specimens.GRID), "conditions": []}), id="no condition"),
    ],
)
def test_a_malformed_reference_is_an_error(data: bytes) -> None:
    with pytest.raises(BadSketch):
        sketch.decode_reference(data)


def test_a_reference_has_at_most_its_limit_of_conditions() -> None:
    with pytest.raises(BadSketch) as caught:
        Reference(specimens.GRID, [Condition("x", [], specimens.a_sketch())] * (limits.MAX_CONDITIONS + 1))
    assert caught.value.limit == limits.MAX_CONDITIONS
