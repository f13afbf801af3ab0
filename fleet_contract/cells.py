"""What a cell of a CSV file says: read in the same way where a model is trained and where a device feeds it."""

_TRUTH = {"true": 1.0, "false": 0.0}
_NOTHING = frozenset({"", "nan", "na", "n/a", "null", "none"})


def to_number(text: str) -> float:
    """The cell's number; true and false, in any case, are 1 and 0. It may be infinite or NaN. Raises ValueError."""
    word = text.strip()
    truth = _TRUTH.get(word.lower())
    if truth is not None:
        return truth
    if "_" in word:
        raise ValueError(f"{word!r} is no number")  # Python's own 1_000 is none in a file
    return float(word)


def is_missing(text: str) -> bool:
    """Whether a cell of a numeric column is empty, or holds what tools write for that."""
    return text.strip().lower() in _NOTHING
