"""Calibration rows that would fix every range by themselves."""

from collections.abc import Mapping

import numpy as np

_USUAL_SHARE = 0.95
_TIMES = 4.0
_MOST_SHARE = 0.02
"""More than so many are no outliers but a part of the data."""
_LEAST_ROWS = 8


def find_outliers(reach: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """Positions of the rows that drive a tensor further than four times what 95 % of rows do. `reach` holds, by tensor, the least and the largest
    value of each row, float32 (rows,). At most 2 % of rows, but one always may be; fewer than 8 rows show none."""
    rows = len(next(iter(reach.values()))[0]) if reach else 0
    if rows < _LEAST_ROWS:
        return np.empty(0, np.int64)
    far = np.zeros(rows)
    for lows, highs in reach.values():
        largest = np.maximum(np.abs(lows), np.abs(highs)).astype(np.float64)
        usual = np.sort(largest)[int(_USUAL_SHARE * (rows - 1))]
        far = np.maximum(far, largest / usual if usual > 0 else np.zeros(rows))
    found = np.flatnonzero(far > _TIMES)
    most = max(1, int(_MOST_SHARE * rows))
    return np.sort(found[np.argsort(-far[found], kind="stable")][:most]) if len(found) <= 2 * most else np.empty(0, np.int64)
