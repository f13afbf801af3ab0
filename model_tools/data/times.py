"""From the words in a time column to numbers that grow with time."""

from collections.abc import Sequence
from datetime import UTC, datetime

import numpy as np

from model_tools.errors import BadData


def to_times(words: Sequence[str], field: str) -> np.ndarray:
    """float64 (rows,): numbers as they are, or the seconds of ISO 8601 (without a zone: UTC). Raises BadData naming the first that is neither."""
    for parse in (float, _seconds):
        try:
            times = np.array([parse(word) for word in words], np.float64)
        except ValueError:
            continue
        if np.isfinite(times).all():
            return times
    row, word = next((row, word) for row, word in enumerate(words, start=1) if not _is_time(word))
    raise BadData(f"row {row}: {word[:40]!r} is neither a number nor a time (ISO 8601)", field=field, limit=f"row {row}")


def _seconds(word: str) -> float:
    parsed = datetime.fromisoformat(word.strip())
    return (parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).timestamp()


def _is_time(word: str) -> bool:
    for parse in (float, _seconds):
        try:
            return bool(np.isfinite(parse(word)))
        except ValueError:
            continue
    return False
