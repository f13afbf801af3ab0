"""Repository files by HTTPS, ranges included (RFC 9110, 14), for devices that were given the address over their own connection."""

from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import FileResponse

from fleet_contract import limits
from fleet_server.api.deps import InFleet
from fleet_server.errors import Forbidden

router = APIRouter(tags=["files"])

_MAX_PERMIT_CHARS = 64
_MAX_EXPIRES = 2**40


@router.get(
    "/files/{path:path}", summary="Read a repository file with the address that the server gave a device", response_class=FileResponse
)
def read_file(
    path: str,
    fleet: InFleet,
    device: Annotated[str, Query(max_length=limits.MAX_DEVICE_ID_CHARS)],
    expires: Annotated[int, Query(ge=0, le=_MAX_EXPIRES, description="seconds since 1970")],
    permit: Annotated[str, Query(max_length=_MAX_PERMIT_CHARS)],
) -> FileResponse:
    """No token: the permit in the address is for this device and path. 403 for one that does not hold, or not any more."""
    fleet.permits.check(device, path, expires, permit)
    if not fleet.may_receive(device):
        raise Forbidden("this device is in quarantine", field="device")
    return FileResponse(fleet.repository.file(path), media_type="application/octet-stream")
