"""Installing what the key holders have signed, and telling in time that they are needed."""

import logging
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta

from sqlalchemy import Engine

from fleet_server.domain import expiry
from fleet_server.ports import Repository, TrustChange
from fleet_server.services import audit
from fleet_server.tables.database import writing

log = logging.getLogger(__name__)

_REMIND_EVERY = timedelta(days=1)


def install(engine: Engine, repository: Repository, files: Mapping[str, bytes], *, by: str, now: datetime) -> TrustChange:
    """Verify root, targets and releases metadata and serve it from now on; all or nothing. The log has it before it is done: what was
    begun may not be missing there. Raises BadRequest or Conflict."""
    change = repository.check(files)
    if not change.files:
        return change
    with writing(engine) as connection:
        detail = {
            "files": sorted(change.files),
            "revoked": dict(change.revoked),
            "added": dict(change.added),
            "dropped": list(change.dropped),
        }
        audit.append(connection, by, "trust.install", f"root {change.versions['root']}", detail, now)
    return repository.install(files)


def record_rotation(engine: Engine, role: str, keyid: str, *, by: str, now: datetime) -> None:
    """That a new online key waits to be signed for."""
    with writing(engine) as connection:
        audit.append(connection, by, "trust.rotate", role, {"key": keyid}, now)


class Reminder:
    """Logs, once a day and role, that offline metadata nears its expiry."""

    def __init__(self, expiries: Callable[[], Mapping[str, datetime]]) -> None:
        self._expiries = expiries
        self._told: dict[str, datetime] = {}

    def remind(self, now: datetime) -> None:
        for warning in expiry.renewals(self._expiries(), now):
            if now - self._told.get(warning.role, now - _REMIND_EVERY) >= _REMIND_EVERY:
                self._told[warning.role] = now
                state = "has EXPIRED, devices refuse every update" if warning.expired else "expires"
                log.warning("%s metadata %s at %s: model-tools keys renew %s", warning.role, state, warning.expires, warning.role)
