"""Whether the server is well, and its numbers for Prometheus."""

from datetime import datetime

from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from fleet_server.api.deps import InFleet, Viewer
from fleet_server.api.schema import Answer
from fleet_server.domain import expiry
from fleet_server.tables import database

router = APIRouter(tags=["health"])
metrics = APIRouter(tags=["health"])


class Broker(Answer):
    kind: str
    url: str
    connected: bool
    protocol: str
    pid: int | None
    bytes_in: int
    bytes_out: int


class Renewal(Answer):
    role: str
    expires: datetime
    expired: bool


class Health(Answer):
    """`status` is ok; degraded while the broker is not connected, or metadata that people sign has expired. `renew` is what they have to sign
    soon. While the database is away there is no answer but 503."""

    status: str
    version: str
    fleet: str
    broker: Broker
    renew: list[Renewal]


@router.get("/health", summary="Is the server well?")
def show_health(fleet: InFleet) -> Health:
    """Raises OperationalError while the database is away."""
    database.ping(fleet.engine)
    broker = fleet.broker.state()
    renew = [Renewal.model_validate(one) for one in expiry.renewals(fleet.repository.expiries(), fleet.now())]
    well = broker.connected and not any(one.expired for one in renew)
    status = "ok" if well else "degraded"
    return Health(status=status, version=fleet.version, fleet=fleet.name, broker=Broker.model_validate(broker), renew=renew)


@metrics.get("/metrics", summary="Numbers in Prometheus' text format", response_class=Response)
def show_metrics(request: Request, _who: Viewer) -> Response:
    return Response(generate_latest(request.app.state.metrics), media_type=CONTENT_TYPE_LATEST)
