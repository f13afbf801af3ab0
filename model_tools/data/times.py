"""From the words in a time column to numbers that grow with time; and which column that is, where nobody says."""

import re
from collections.abc import Sequence
from datetime import UTC, datetime

import numpy as np

from model_tools.errors import BadData

_NAMES = re.compile(r"(date|time|date[ _-]?time|time[ _-]?stamp|ts)([ _-]?[(\[]?(s|sec|seconds|utc)[)\]]?)?", re.IGNORECASE)


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


def may_be_time(column: str, words: Sequence[str]) -> bool:
    """Whether these first words of it could be times: dates in ISO 8601, or numbers in a column that is called so."""
    return bool(words) and all(map(_is_date, words) if not _NAMES.fullmatch(column) else map(_is_time, words))


def is_clock(words: Sequence[str], streams: Sequence[str] | None) -> bool:
    """Whether all of a column's words are dates, or numbers that a clock may have shown: in the file's order they never fall within a stream, and
    mostly rise."""
    if all(map(_is_date, words)):
        return True
    if not all(map(_is_time, words)):
        return False
    times = to_times(words, "")
    owners = np.zeros(len(words), np.int64) if streams is None else np.unique(streams, return_inverse=True)[1]
    order = np.argsort(owners, kind="stable")
    steps = np.diff(times[order])[np.diff(owners[order]) == 0]
    return len(steps) > 0 and bool((steps >= 0).all() and 2 * np.count_nonzero(steps) > len(steps))


def _seconds(word: str) -> float:
    parsed = datetime.fromisoformat(word.strip().replace("/", "-"))
    return (parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).timestamp()


def _is_date(word: str) -> bool:
    """Not one of digits alone, which a number is, too."""
    return ("-" in word[1:] or "/" in word) and not _is_number(word) and _is_time(word)


def _is_number(word: str) -> bool:
    try:
        return bool(np.isfinite(float(word)))
    except ValueError:
        return False


def _is_time(word: str) -> bool:
    try:
        return _is_number(word) or bool(np.isfinite(_seconds(word)))
    except (ValueError, OverflowError):
        return False
