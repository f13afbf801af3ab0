"""Whether a device is there, and how long it may be away. Pure."""

from datetime import datetime, timedelta

SILENT_AFTER = timedelta(seconds=120)
"""A device that says it is online but has been silent this long, and for two of its heartbeats, is not: its last will was lost with the broker."""
ABSENT_AFTER = timedelta(minutes=10)
"""A rollout does not wait for a device that has been away this long: its order waits for it instead."""


def is_online(said_online: bool, last_seen: datetime | None, now: datetime, heartbeat_s: int = 0) -> bool:
    """`heartbeat_s` is what the device says; 0 is the usual."""
    return said_online and last_seen is not None and now - last_seen <= max(SILENT_AFTER, timedelta(seconds=2 * heartbeat_s))


def is_absent(said_online: bool, last_seen: datetime | None, now: datetime, heartbeat_s: int = 0) -> bool:
    """Not online, and not just for a moment. A device that was never seen is absent."""
    if is_online(said_online, last_seen, now, heartbeat_s):
        return False
    return last_seen is None or now - last_seen > ABSENT_AFTER
