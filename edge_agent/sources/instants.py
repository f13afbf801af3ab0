"""What a sample says of when it was taken."""

from datetime import UTC, datetime

_FIRST = datetime(1970, 1, 1, tzinfo=UTC)


def to_instant(value: object) -> datetime:
    """Seconds since 1970 (UTC), or ISO 8601, which is UTC unless it says another offset. Raises ValueError."""
    if isinstance(value, bool):
        raise ValueError(f"{value!r} is no time")
    try:
        at = _of_text(value) if isinstance(value, str) else datetime.fromtimestamp(float(value), UTC)  # type: ignore[arg-type]
    except (TypeError, OverflowError, OSError) as error:
        raise ValueError(f"{value!r} is no time") from error
    if at < _FIRST:
        raise ValueError(f"{value!r} is before 1970")
    return at


def _of_text(text: str) -> datetime:
    try:
        return datetime.fromtimestamp(float(text), UTC)
    except ValueError:
        at = datetime.fromisoformat(text.strip())
        return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
