"""Which files of the lake have had their time. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta


@dataclass(frozen=True)
class Kept:
    """A file of a day (YYYY-MM-DD)."""

    id: int
    day: str
    bytes: int


def expired(files: Sequence[Kept], today: date, days: int | None, max_bytes: int | None) -> list[int]:
    """Files of days before the last `days`; then the oldest of the others, until they are `max_bytes` at most together. Today's stay."""
    oldest = (today - timedelta(days=days)).isoformat() if days is not None else ""
    gone = [file.id for file in files if file.day < oldest]
    left = sorted((file for file in files if file.day >= oldest), key=lambda file: (file.day, file.id))
    surplus = sum(file.bytes for file in left) - max_bytes if max_bytes is not None else 0
    for file in left:
        if surplus <= 0 or file.day >= today.isoformat():
            break
        gone.append(file.id)
        surplus -= file.bytes
    return gone
