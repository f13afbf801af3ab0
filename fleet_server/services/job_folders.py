"""The folder that a job's process gets: spec.json and all that it names."""

import shutil
from pathlib import Path

import msgspec
from sqlalchemy import Row, select

from fleet_contract import names
from fleet_contract.job import SPEC, JobSpec, LabelledSample
from fleet_server import storage
from fleet_server.domain import retraining
from fleet_server.errors import NotFound, Unavailable
from fleet_server.fleet import Fleet
from fleet_server.services import bundles, samples, windows
from fleet_server.tables.database import reading
from fleet_server.tables.finding import Finding

_SUFFIXES = {"image/jpeg": ".jpg", "image/png": ".png", "application/json": ".json"}


def path(fleet: Fleet, job: int) -> Path:
    return fleet.jobs / str(job)


def prepare(fleet: Fleet, job: Row) -> Path:
    """Make the job's folder anew. Raises Unavailable (no task file or releases key), NotFound, ContractError or OSError."""
    if job.task not in fleet.tasks:
        raise Unavailable(f"the server knows no task file for {job.task!r}: start it with --task")
    if fleet.releases_key is None:
        raise Unavailable("the server has no releases key: start it with --releases-key")
    folder = path(fleet, job.id)
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "samples").mkdir(parents=True)
    with reading(fleet.engine) as connection:
        champion = bundles.find(connection, job.champion)
        labelled = samples.labelled_for(connection, job.task)
        finding = connection.execute(select(Finding).where(Finding.id == job.finding)).one_or_none()
        condition = windows.drifted_condition(connection, finding) if finding is not None else None
    if condition is not None:
        storage.write_atomic(folder / "condition.msgpack", msgspec.msgpack.encode(condition))
    storage.write_atomic(folder / "releases.json", fleet.repository.metadata("releases.json"))
    spec = JobSpec(
        job=str(job.id),
        task_file=str(fleet.tasks[job.task].resolve()),
        champion=str(fleet.repository.file(bundles.archive_path(champion)).resolve()),
        bundle_version=retraining.challenger_version(champion.version, job.id),
        samples=[_copy(fleet, row, folder) for row in labelled],
        condition=str((folder / "condition.msgpack").resolve()) if condition is not None else None,
        releases=str((folder / "releases.json").resolve()),
        releases_key=str(fleet.releases_key.resolve()),
    )
    storage.write_atomic(folder / SPEC, msgspec.json.encode(spec))
    return folder


def inside(folder: Path, name: str | None, field: str) -> Path:
    """A file that the job's result names. Raises NotFound or BadName (ContractError)."""
    if name is None or not (folder / names.path(name, field)).is_file():
        raise NotFound(f"the job's result names no {field} file that is there", field=field)
    return folder / name


def _copy(fleet: Fleet, row: Row, folder: Path) -> LabelledSample:
    file = f"samples/{row.id}{_SUFFIXES[row.media_type]}"
    shutil.copyfile(fleet.samples / row.sha256, folder / file)
    return LabelledSample(input_id=row.input_id, device=row.device, file=file, media_type=row.media_type, label=row.truth)
