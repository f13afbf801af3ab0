"""Bundles: list, upload, download."""

from datetime import datetime
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import FileResponse
from starlette.concurrency import run_in_threadpool

from fleet_contract import limits
from fleet_server.api import upload
from fleet_server.api.deps import InFleet, Operator, Paged, Viewer, following
from fleet_server.api.schema import Answer, Page, Word
from fleet_server.services import bundles

router = APIRouter(prefix="/bundles", tags=["bundles"])
_DELTAS = [f"delta-{number}" for number in range(limits.MAX_DELTAS_PER_RELEASE)]
_MAX_BYTES = {"bundle": limits.MAX_BUNDLE_BYTES, "releases": limits.MAX_METADATA_BYTES} | dict.fromkeys(_DELTAS, limits.MAX_DELTA_BYTES)
_PART = {"type": "string", "format": "binary"}
_UPLOAD = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {"type": "object", "required": ["bundle", "releases"], "properties": dict.fromkeys(_MAX_BYTES, _PART)}
            }
        },
    }
}


class Bundle(Answer):
    """`manifest` is the archive's own."""

    sha256: str
    task: str
    version: str
    length: int
    target_path: str
    job: int | None
    published_by: str
    published_at: datetime
    manifest: dict[str, Any]


class Published(Answer):
    sha256: str
    task: str
    version: str


@router.get("", summary="List bundles, oldest first")
def list_bundles(fleet: InFleet, _who: Viewer, paged: Paged) -> Page[Bundle]:
    rows = bundles.page(fleet.engine, after=paged.after, limit=paged.limit)
    return Page(items=rows, next=following(rows, paged.limit))


@router.get("/{sha256}", summary="Show one bundle")
def show_bundle(sha256: Word, fleet: InFleet, _who: Viewer) -> Bundle:
    return bundles.get(fleet.engine, sha256)


@router.get("/{sha256}/content", summary="Download a bundle's archive", response_class=FileResponse)
def download(sha256: Word, fleet: InFleet, _who: Viewer) -> FileResponse:
    row = bundles.get(fleet.engine, sha256)
    path = fleet.repository.file(bundles.archive_path(row))
    return FileResponse(path, media_type="application/octet-stream", filename=f"{row.task}-{row.version}.bundle")


@router.post("", status_code=201, summary="Publish a bundle with the signed releases metadata that names it", openapi_extra=_UPLOAD)
async def publish(request: Request, fleet: InFleet, who: Operator) -> Published:
    """Parts: `bundle` (the archive), `releases` (releases.json, next version), and `delta-0` and so on for the deltas that it lists, in that order.
    All are checked whole before anything is kept."""
    with upload.folder_for(fleet.home / "uploads") as folder:
        parts = await upload.receive(request, folder, _MAX_BYTES, optional=_DELTAS)
        releases = parts["releases"].read_bytes()
        deltas = [parts[name] for name in _DELTAS if name in parts]
        return await run_in_threadpool(bundles.publish, fleet, parts["bundle"], releases, deltas=deltas, by=who.id, now=fleet.now())
