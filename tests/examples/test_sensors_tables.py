"""The sensor example's tables: real rows, dealt once, and a fault that touches lengths and areas alone."""

import csv

import numpy as np

from examples.sensors import tables


def test_no_sample_is_both_trained_on_and_measured():
    dealt = tables.deal(np.random.default_rng(0))
    assert len(dealt.training) + len(dealt.rest) == 569
    assert not {row.values for row in dealt.training} & {row.values for row in dealt.rest}
    assert {row.label for row in dealt.training} == {"malignant", "benign"}


def test_a_wrong_scale_stretches_lengths_once_areas_twice_and_nothing_else():
    dealt = tables.deal(np.random.default_rng(0))
    true, read = dealt.rest[0], tables.miscalibrate(dealt.rest[0], dealt.columns)
    ratio = {column: round(b / a, 6) for column, a, b in zip(dealt.columns, true.values, read.values, strict=True) if a}
    assert ratio["mean-radius"] == ratio["worst-perimeter"] == ratio["radius-error"] == 1.6
    assert ratio["mean-area"] == ratio["area-error"] == 2.56
    assert ratio["mean-texture"] == ratio["worst-symmetry"] == 1.0


def test_the_script_writes_what_the_task_file_reads(tmp_path):
    tables.main(tmp_path)
    with (tmp_path / "training.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 240
    assert rows[0].keys() == {*tables.deal(np.random.default_rng(0)).columns, tables.LABEL}
    assert {path.name for path in tmp_path.iterdir()} == {"training.csv", "rows.csv", "shifted.csv"}
