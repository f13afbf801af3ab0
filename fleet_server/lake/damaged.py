"""Segments that nobody can read any more: laid aside for people, so that the inbox goes on behind them. What was in them is missing from the
ledger, which says so."""

import logging
from collections.abc import Iterable
from pathlib import Path

from fleet_server import storage
from fleet_server.inbox.port import Segment

log = logging.getLogger(__name__)

FOLDER = "inbox-damaged"
_KEPT_SEGMENTS = 16


def set_aside(home: Path, segments: Iterable[Segment]) -> int:
    """Write down what lies in damaged segments, the newest sixteen of all times; how many there were. Safe to repeat. Raises OSError."""
    found = [segment for segment in segments if segment.damaged is not None]
    if not found:
        return 0
    folder = storage.make_folder(home / FOLDER, 0o700)
    for segment in found:
        log.error("segment %d of the inbox is damaged: %d bytes are set aside in %s", segment.id, len(segment.damaged), folder)
        storage.write_atomic(folder / f"{segment.id:019}", segment.damaged, 0o600)
    for old in sorted(folder.iterdir())[:-_KEPT_SEGMENTS]:
        old.unlink()
    return len(found)
