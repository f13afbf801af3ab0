"""What devices measured of the bundles that they installed: which backend is right, and how fast."""

from typing import Annotated

from fastapi import APIRouter, Query

from fleet_contract import limits
from fleet_server.api.deps import DEFAULT_PAGE_ROWS, InFleet, Viewer
from fleet_server.api.schema import Answer, Page, Word
from fleet_server.services import measurements

router = APIRouter(tags=["measurements"])


class Measurement(Answer):
    """Over the devices of one profile that have installed the bundle. Medians are of those where the verdict is `right`, null where there is none;
    `max_difference` from the known answers is the largest of them. `chosen` counts the devices that run the bundle so. `message` is one
    device's word on the most frequent other verdict."""

    profile: str
    bundle: str
    variant: str
    backend: str
    devices: int
    chosen: int
    verdicts: dict[str, int]
    message: str
    p50_us: float | None
    p99_us: float | None
    memory_bytes: float | None
    load_ms: float | None
    max_difference: float | None


@router.get("/bundles/{sha256}/measurements", summary="What a bundle showed on each backend, by profile")
def show_bundle(sha256: Word, fleet: InFleet, _who: Viewer) -> Page[Measurement]:
    return Page(items=measurements.of_bundle(fleet.engine, sha256))


@router.get("/profiles/{name}/measurements", summary="What bundles showed on each backend of a hardware profile")
def show_profile(
    name: Word,
    fleet: InFleet,
    _who: Viewer,
    after: Word = "",
    limit: Annotated[int, Query(ge=1, le=limits.MAX_PAGE_ROWS)] = DEFAULT_PAGE_ROWS,
) -> Page[Measurement]:
    """A page holds every line of `limit` bundles."""
    items = measurements.of_profile(fleet.engine, name, after=after, limit=limit)
    digests = sorted({item.bundle for item in items})
    return Page(items=items, next=digests[-1] if len(digests) == limit else None)
