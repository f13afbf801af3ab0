"""Test rows that are all but training rows: the same picture saved again, the same measurement with another digit, windows that overlap."""

from dataclasses import dataclass

import numpy as np

from model_tools.check.finding import Finding, by_share, name_some
from model_tools.check.likeness import MAX_SAMPLES, draw, features_of
from model_tools.check.table import TEST, TRAIN, Table

_MAX_TESTED = 2_000
_MAX_LEARNT = 10_000
_NEIGHBOURS = 10
_BY_CHANCE = 1e-3
"""Share of rows that may be called near though they are not."""
_WIDEST = 0.3
_RUN_SAMPLES = 16
_LEAST_CHANGES = 8
"""A run of samples that changes more seldom (silence, a switch that is off) is met again by chance."""
_MAX_SAMPLES = 4_000_000
_RUNS = 256
"""Of a window that are looked up, chosen by what they hold, so that the same ones are in every window."""


def find_near(table: Table, seed: int) -> list[Finding]:
    """Rows, not equal, whose nearest training row is far nearer than the tenth nearest is: so near, by the number of dimensions that the rows
    really fill, as of a thousand rows one is by chance. Of samples of the rows where there are many."""
    tested, learnt = draw(table.rows(TEST), _MAX_TESTED, seed), draw(table.rows(TRAIN), _MAX_LEARNT, seed)
    tested = tested[~np.isin(table.digests[tested], table.digests[table.learnt])]
    if len(learnt) <= 2 * _NEIGHBOURS or not len(tested):
        return []
    features = features_of(table.take(np.concatenate([tested, learnt]), MAX_SAMPLES), seed)
    if not features.shape[1]:
        return []
    near = tested[_are_near(features[: len(tested)], features[len(tested) :])]
    share = len(near) / len(tested)
    if share <= 3 * _BY_CHANCE or len(near) < 2:
        return []
    told = f"{share:.1%} of the test rows are nearly equal to a training row"
    return [Finding("near-duplicates-across-splits", by_share(share, 0.1, 0.01), told, share=share, examples=name_some(table.ids[near]))]


def _are_near(tested: np.ndarray, learnt: np.ndarray) -> np.ndarray:
    """bool (tested rows,). Dimensions by Levina and Bickel, Maximum Likelihood Estimation of Intrinsic Dimension (2004), from the 10th and the
    20th neighbour; of rows at random so many neighbours within r times the distance of the 10th are expected: 10 r^dimensions."""
    from sklearn.neighbors import NearestNeighbors

    far = 2 * _NEIGHBOURS
    distances = NearestNeighbors(n_neighbors=far).fit(learnt).kneighbors(tested)[0]
    first, tenth, last = distances[:, 0], distances[:, _NEIGHBOURS - 1], distances[:, far - 1]
    spread = np.log(last[tenth > 0] / tenth[tenth > 0])
    if not len(spread) or spread.mean() <= 0:
        return np.zeros(len(tested), bool)
    dimensions = np.log(far / _NEIGHBOURS) / spread.mean()
    reach = min(_WIDEST, (_BY_CHANCE / _NEIGHBOURS) ** (1 / dimensions))
    return first < reach * tenth


def find_shared_samples(table: Table) -> list[Finding]:
    """Windows of the test that hold a run of 16 samples of a training window, value for value; of those at the middle of the table where there are many."""
    if not table.has_windows:
        return []
    most = max(2, _MAX_SAMPLES // table.length)
    first = max(0, (len(table) - most) // 2)
    # in one stretch: windows that overlap stand beside each other
    at = np.arange(first, min(len(table), first + most))
    learnt, tested = (at[table.part[at] == part] for part in (TRAIN, TEST))
    if not len(learnt) or not len(tested):
        return []
    known, runs = _runs(table.take(learnt)), _runs(table.take(tested))
    met = np.zeros(runs.hashes.shape, bool)
    met[runs.telling] = np.isin(runs.hashes[runs.telling], known.hashes[known.telling])
    shared = tested[met.any(axis=1)]
    if not len(shared):
        return []
    share = len(shared) / len(tested)
    told = f"{share:.1%} of the test windows share samples with a training window: cut windows after splitting, as input.length does"
    return [Finding("shared-samples", by_share(share, 0.05, 0.005), told, share=share, examples=name_some(table.ids[shared]))]


@dataclass(frozen=True)
class _Runs:
    """(windows, runs) each: uint64 `hashes` that are equal for equal runs, and whether a run is looked up: one that changes enough to be one of its kind."""

    hashes: np.ndarray
    telling: np.ndarray


def _runs(windows: np.ndarray) -> _Runs:
    """Integers wrap around, so that a run's hash does not depend on where in its window it is."""
    length = min(_RUN_SAMPLES, windows.shape[1])
    odd = np.random.default_rng(0).integers(0, 2**63, windows.shape[2] + length, dtype=np.uint64) * np.uint64(2) + np.uint64(1)
    bits = np.ascontiguousarray(windows + np.float32(0)).view(np.uint32).astype(np.uint64)
    samples = np.zeros(windows.shape[:2], np.uint64)
    for column in range(windows.shape[2]):
        samples += bits[:, :, column] * odd[column]
    places = windows.shape[1] - length + 1
    hashes, changes = np.zeros((len(windows), places), np.uint64), np.zeros((len(windows), places), np.int64)
    changed = np.diff(samples, axis=1) != 0
    for at in range(length):
        hashes += samples[:, at : at + places] * odd[windows.shape[2] + at]
        if at < length - 1:
            changes += changed[:, at : at + places]
    chosen = (hashes >> np.uint64(32)) % np.uint64(max(1, places // _RUNS)) == 0
    return _Runs(hashes, chosen & (changes >= min(_LEAST_CHANGES, length - 1)))
