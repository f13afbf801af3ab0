"""Published bundles."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
from sqlalchemy import Connection, Engine, Row, insert, select

from fleet_contract import sketch
from fleet_contract.bundle import Bundle
from fleet_contract.manifest import Manifest, Policy
from fleet_server.errors import Conflict, NotFound
from fleet_server.fleet import Fleet
from fleet_server.ports import Target
from fleet_server.services import audit
from fleet_server.tables.bundle import Bundle as BundleRow
from fleet_server.tables.database import reading, writing

_SHOWN = (
    BundleRow.id,
    BundleRow.sha256,
    BundleRow.task,
    BundleRow.version,
    BundleRow.target_path,
    BundleRow.length,
    BundleRow.manifest,
    BundleRow.job,
    BundleRow.published_by,
    BundleRow.published_at,
)
"""Everything but the reference, which may be megabytes."""


@dataclass(frozen=True)
class Published:
    sha256: str
    task: str
    version: str


def publish(
    fleet: Fleet, archive: Path, releases: bytes, *, by: str, now: datetime, deltas: Sequence[Path] = (), job: int | None = None
) -> Published:
    """Verify a bundle, have the repository sign for it, and register it. Safe to repeat after a crash in the middle.

    Raises BadBundle or BadSketch (ContractError), BadRequest for metadata that does not name this bundle and these deltas,
    Conflict when this task has this version already or the metadata is not the next version.
    """
    bundle = Bundle(archive)
    reference = bundle.read(bundle.manifest.reference)
    sketch.decode_reference(reference)
    with reading(fleet.engine) as connection:
        _check_new(connection, bundle.sha256, bundle.manifest)
    target = fleet.repository.publish(archive, releases, deltas)
    row = _row(bundle, target, reference) | {"job": job, "published_by": by, "published_at": now}
    with writing(fleet.engine) as connection:
        _check_new(connection, bundle.sha256, bundle.manifest)
        connection.execute(insert(BundleRow).values(row))
        detail = {"task": row["task"], "version": row["version"], "length": row["length"], "job": job, "deltas": len(deltas)}
        audit.append(connection, by, "bundle.publish", bundle.sha256, detail, now)
    fleet.wake()
    return Published(bundle.sha256, bundle.manifest.task, bundle.manifest.version)


def find(connection: Connection, sha256: str) -> Row:
    """Raises NotFound."""
    row = connection.execute(select(*_SHOWN).where(BundleRow.sha256 == sha256)).one_or_none()
    if row is None:
        raise NotFound(f"there is no bundle {sha256!r}", field="bundle")
    return row


def get(engine: Engine, sha256: str) -> Row:
    """Raises NotFound."""
    with reading(engine) as connection:
        return find(connection, sha256)


def page(engine: Engine, *, after: int, limit: int) -> list[Row]:
    """In the order of their publication."""
    with reading(engine) as connection:
        return list(connection.execute(select(*_SHOWN).where(BundleRow.id > after).order_by(BundleRow.id).limit(limit)))


def manifest_of(row: Row | Any) -> Manifest:
    return msgspec.convert(row.manifest, Manifest)


def reference_of(connection: Connection, sha256: str) -> sketch.Reference | None:
    """None for a bundle that was never published here."""
    data = connection.execute(select(BundleRow.reference).where(BundleRow.sha256 == sha256)).scalar_one_or_none()
    return None if data is None else sketch.decode_reference(data)


def policy_of(connection: Connection, sha256: str) -> Policy:
    """Raises NotFound."""
    return manifest_of(find(connection, sha256)).policy


def archive_path(row: Row | Any) -> str:
    """The repository file of a bundle: its target path with the digest before the name (TUF consistent snapshots)."""
    folder, name = row.target_path.rsplit("/", 1)
    return f"targets/{folder}/{row.sha256}.{name}"


def _row(bundle: Bundle, target: Target, reference: bytes) -> dict[str, Any]:
    return {
        "sha256": bundle.sha256,
        "task": bundle.manifest.task,
        "version": bundle.manifest.version,
        "target_path": target.path,
        "length": bundle.length,
        "manifest": msgspec.to_builtins(bundle.manifest),
        "reference": reference,
    }


def _check_new(connection: Connection, sha256: str, manifest: Manifest) -> None:
    same = (BundleRow.sha256 == sha256) | ((BundleRow.task == manifest.task) & (BundleRow.version == manifest.version))
    found = connection.execute(select(BundleRow.sha256).where(same)).first()
    if found is not None:
        raise Conflict(f"task {manifest.task!r} has a version {manifest.version!r} already: {found.sha256}", field="version")
