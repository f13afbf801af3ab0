"""The append-only log of changes. Each entry's hash is SHA-256 over the hash before it and the entry's canonical JSON."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, Engine, Row, select, update

from fleet_server.tables.audit import AuditEntry, AuditHead
from fleet_server.tables.bulk import add, instants
from fleet_server.tables.database import reading

GENESIS = "0" * 64
SERVER = "server"
"""The actor of what the control loop does by itself."""


@dataclass(frozen=True)
class Verification:
    """`broken_at` is the first entry that does not follow from those before it, or one past the last when the log was cut short."""

    intact: bool
    entries: int
    broken_at: int | None


def append(connection: Connection, actor: str, action: str, subject: str, detail: dict[str, Any], at: datetime) -> None:
    """Add an entry in the caller's transaction: the change and its record are stored together or not at all."""
    append_all(connection, actor, action, [(subject, detail)], at)


def append_all(connection: Connection, actor: str, action: str, changes: Sequence[tuple[str, dict[str, Any]]], at: datetime) -> None:
    """`append` of one entry for each (subject, detail), in their order."""
    if not changes:
        return
    head = connection.execute(select(AuditHead).with_for_update()).one()
    digests, count = [head.hash], len(changes)
    for seq, (subject, detail) in enumerate(changes, head.seq + 1):
        digests.append(_digest(digests[-1], seq, at, actor, action, subject, detail))
    entries = {
        "seq": [*range(head.seq + 1, head.seq + 1 + count)],
        "at": instants(connection, [at] * count),
        "actor": [actor] * count,
        "action": [action] * count,
        "subject": [subject for subject, _ in changes],
        "detail": [json.dumps(detail) for _, detail in changes],
        "hash": digests[1:],
    }
    add(connection, AuditEntry, entries)
    connection.execute(update(AuditHead).values(seq=head.seq + count, hash=digests[-1]))


def verify(engine: Engine) -> Verification:
    """Recompute the whole chain."""
    with reading(engine) as connection:
        head = connection.execute(select(AuditHead)).one()
        previous, seq = GENESIS, 0
        entries = select(AuditEntry).order_by(AuditEntry.seq)
        with connection.execute(entries, execution_options={"yield_per": 1_000}) as rows:
            for row in rows:
                digest = _digest(previous, seq + 1, row.at, row.actor, row.action, row.subject, row.detail)
                if row.seq != seq + 1 or row.hash != digest:
                    return Verification(False, seq, seq + 1)
                previous, seq = digest, row.seq
    intact = (seq, previous) == (head.seq, head.hash)
    return Verification(intact, seq, None if intact else seq + 1)


def page(engine: Engine, after: int, limit: int) -> list[Row]:
    """Entries with a number above `after`, oldest first."""
    with reading(engine) as connection:
        return list(connection.execute(select(AuditEntry).where(AuditEntry.seq > after).order_by(AuditEntry.seq).limit(limit)))


def _digest(previous: str, seq: int, at: datetime, actor: str, action: str, subject: str, detail: dict[str, Any]) -> str:
    body = {"seq": seq, "at": at.astimezone(UTC).isoformat(), "actor": actor, "action": action, "subject": subject, "detail": detail}
    text = json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256((previous + text).encode()).hexdigest()
