"""What a turn adds to the minutes and tallies: summed by runs of rows of one device, bundle and minute, which batches mostly are."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, select

from fleet_server.domain.rollups import LATENCY_BOUNDS_US, MAX_VALUE
from fleet_server.lake.inferences import Inferences
from fleet_server.tables import bulk
from fleet_server.tables.minutes import Minute, Series
from fleet_server.tables.tally import Tally

_US_PER_MINUTE = 60_000_000
_BUCKETS = [f"latency_{at}" for at in range(len(LATENCY_BOUNDS_US) + 1)]
_MAX_CELLS = 1 << 22

SeriesKey = tuple[str, str]
"""Device and bundle."""


@dataclass(frozen=True)
class Added:
    """`minutes` has an element of each column for each of `series`; `tallies` counts by device, bundle and label."""

    series: list[SeriesKey]
    minutes: dict[str, NDArray]
    tallies: dict[tuple[str, str, str], int]


def of(rows: Inferences) -> Added:
    """Of the rows that are kept; there are some."""
    keep = slice(None) if rows.keep.all() else rows.keep
    names: dict[str, int] = {}
    device = np.array([names.setdefault(each.piece.device, len(names)) for each in rows.fresh]) * len(rows.bundles)
    pair = np.repeat(device, rows.counts)[keep] + rows.bundle[keep]
    minute = rows.at_us[keep] // _US_PER_MINUTE
    starts = np.flatnonzero(np.concatenate([[True], (pair[1:] != pair[:-1]) | (minute[1:] != minute[:-1])]))
    pairs, series = np.unique(pair[starts], return_inverse=True)
    devices = list(names)
    keys = [(devices[each // len(rows.bundles)], rows.bundles[each % len(rows.bundles)]) for each in pairs.tolist()]
    which, minutes = _minutes(rows, keep, starts, series, minute[starts])
    return Added(
        [keys[at] for at in which.tolist()], minutes, _tallies(rows, keep, keys, np.repeat(series, np.diff(starts, append=len(pair))))
    )


def _minutes(
    rows: Inferences, keep: slice | NDArray, starts: NDArray, series: NDArray, minute: NDArray
) -> tuple[NDArray, dict[str, NDArray]]:
    """Of runs of rows, which begin at `starts` and are of one series and minute each."""
    value, latency = np.clip(rows.value[keep], -MAX_VALUE, MAX_VALUE), rows.latency_us[keep]
    lengths = np.diff(starts, append=len(value))
    sums = {
        "inputs": lengths,
        "abstained": np.add.reduceat(rows.abstained[keep].astype(np.int64), starts),
        "value_sum": np.add.reduceat(value, starts),
        "latency_us_sum": np.add.reduceat(latency.astype(np.float64), starts),
    }
    sums |= zip(_BUCKETS, _buckets(latency, lengths), strict=True)
    lowest, highest, longest = np.minimum.reduceat(value, starts), np.maximum.reduceat(value, starts), np.maximum.reduceat(latency, starts)
    order = np.lexsort((series, minute))
    of_minute, of_series = minute[order], series[order]
    first = np.flatnonzero(np.concatenate([[True], (of_series[1:] != of_series[:-1]) | (of_minute[1:] != of_minute[:-1])]))
    found = {"minute": of_minute[first], **{name: np.add.reduceat(column[order], first) for name, column in sums.items()}}
    found["value_min"] = np.minimum.reduceat(lowest[order], first)
    found["value_max"] = np.maximum.reduceat(highest[order], first)
    found["latency_us_max"] = np.maximum.reduceat(longest[order], first)
    return of_series[first], found


def _buckets(latency_us: NDArray[np.int64], lengths: NDArray) -> NDArray[np.int64]:
    """How many of each run fall into each bucket, a row a bucket."""
    run = np.repeat(np.arange(len(lengths)) * len(_BUCKETS), lengths)
    for bound in LATENCY_BOUNDS_US:
        run += latency_us > bound
    return np.bincount(run, minlength=len(lengths) * len(_BUCKETS)).reshape(-1, len(_BUCKETS)).T


def _tallies(rows: Inferences, keep: slice | NDArray, keys: list[SeriesKey], series: NDArray) -> dict[tuple[str, str, str], int]:
    cell = series * len(rows.labels) + rows.label[keep]
    if len(keys) * len(rows.labels) <= _MAX_CELLS:
        counts = np.bincount(cell)
        cells = np.flatnonzero(counts)
        counts = counts[cells]
    else:
        cells, counts = np.unique(cell, return_counts=True)
    found: dict[tuple[str, str, str], int] = {}
    for each, count in zip(cells.tolist(), counts.tolist(), strict=True):
        key = (*keys[each // len(rows.labels)], rows.labels[each % len(rows.labels)] or "")
        found[key] = found.get(key, 0) + count
    return found


def save(connection: Connection, added: Added, tasks: Mapping[str, str]) -> None:
    keys = sorted(set(added.series))
    named = {
        "device": [device for device, _ in keys],
        "task": [tasks[device] for device, _ in keys],
        "bundle": [bundle for _, bundle in keys],
    }
    bulk.upsert(connection, Series, named, keys=("device", "bundle"))
    rows = bulk.rows_of(connection, select(Series.id, Series.device, Series.bundle), Series.device, set(named["device"]))
    ids = {(row.device, row.bundle): row.id for row in rows}
    values = {"series": [ids[key] for key in added.series], **{name: column.tolist() for name, column in added.minutes.items()}}
    update = bulk.plus(Minute, "inputs", "abstained", "value_sum", "latency_us_sum", *_BUCKETS)
    update |= bulk.lowest(Minute, "value_min") | bulk.highest(Minute, "value_max") | bulk.highest(Minute, "latency_us_max")
    bulk.upsert(connection, Minute, values, keys=("minute", "series"), update=update)
    tallies = sorted(added.tallies.items())
    counts = {name: [key[at] for key, _ in tallies] for at, name in enumerate(("device", "bundle", "label"))}
    counts["count"] = [count for _, count in tallies]
    bulk.upsert(connection, Tally, counts, keys=("device", "bundle", "label"), update=bulk.plus(Tally, "count"))
