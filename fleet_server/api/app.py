"""The FastAPI application over a fleet."""

from fastapi import FastAPI

from fleet_server.api import (
    alerts,
    audit,
    bundles,
    deletions,
    devices,
    drift,
    enrolment,
    errors,
    files,
    health,
    jobs,
    measurements,
    rollouts,
    samples,
    telemetry,
    tokens,
    traces,
    trust,
)
from fleet_server.api.limiting import BodyLimit
from fleet_server.fleet import Fleet
from fleet_server.metrics.registry import registry_for
from fleet_server.queries.reader import Reader

PREFIX = "/v1"
_ROUTERS = (
    health.router,
    enrolment.router,
    devices.router,
    deletions.router,
    alerts.router,
    bundles.router,
    files.router,
    rollouts.router,
    telemetry.router,
    traces.router,
    measurements.router,
    drift.router,
    samples.router,
    jobs.router,
    tokens.router,
    trust.router,
    audit.router,
)


def create_app(fleet: Fleet) -> FastAPI:
    """An application of its own: nothing is shared between two but what their fleets share."""
    app = FastAPI(title="edgefleet", version=fleet.version, docs_url="/docs", redoc_url=None, responses=errors.RESPONSES)
    app.state.fleet = fleet
    errors.install(app)
    app.state.reader = Reader(fleet.engine, fleet.lake, fleet.query_bounds)
    app.state.metrics = registry_for(fleet, app.state.refusals)
    app.add_middleware(BodyLimit)
    for router in _ROUTERS:
        app.include_router(router, prefix=PREFIX)
    app.include_router(health.metrics)
    return app
