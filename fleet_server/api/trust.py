"""The signed metadata: read by everybody, renewed by the key holders."""

from fastapi import APIRouter, Response
from pydantic import Field

from fleet_contract import limits
from fleet_server.api.deps import Admin, InFleet
from fleet_server.api.schema import Answer, Body, Word
from fleet_server.services import trust

router = APIRouter(tags=["trust"])


class Files(Body):
    """By their names, as 2.root.json, the files' text."""

    files: dict[str, str] = Field(min_length=1, max_length=limits.MAX_TRUST_UPLOAD_ENTRIES)


class Change(Answer):
    """`files` is what was new. Keys are TUF key ids by role, `dropped` the targets that were taken back."""

    files: list[str]
    versions: dict[str, int]
    revoked: dict[str, list[str]]
    added: dict[str, list[str]]
    dropped: list[str]


@router.get("/tuf/{name}", summary="A file of the signed TUF metadata", response_class=Response)
def show_metadata(name: Word, fleet: InFleet) -> Response:
    data = fleet.repository.metadata(name)
    return Response(data, media_type="application/json" if data[:1] == b"{" else "application/octet-stream")


@router.post("/tuf", summary="Install root, targets and releases metadata that the key holders have signed")
def install(body: Files, fleet: InFleet, who: Admin) -> Change:
    """All of it or nothing. Installing the same again changes nothing. 409 where another version must follow."""
    files = {name: text.encode() for name, text in body.files.items()}
    change = trust.install(fleet.engine, fleet.repository, files, by=who.id, now=fleet.now())
    fleet.wake()
    told = {"revoked": dict(change.revoked), "added": dict(change.added), "dropped": change.dropped}
    return Change(files=sorted(change.files), versions=dict(change.versions), **told)
