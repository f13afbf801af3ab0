"""Commands for ingest workers that `fleet-server up` does not start itself."""

import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from fleet_contract import logs
from fleet_server import founding, settings
from fleet_server.ingest import elsewhere
from fleet_server.options import QUIET_LOGGERS, Home, LogFormat

Number = Annotated[int, typer.Option(help="Which worker this is, from 1; `up` uses those up to its ingest_workers.")]
Broker = Annotated[str | None, typer.Option(help="mqtts://host:port; by default the one that the server uses.")]
DatabaseUrl = Annotated[str | None, typer.Option(help="Overrides the one chosen at init.")]


def ingest(
    home: Home,
    number: Number,
    broker: Broker = None,
    workers: Annotated[int, typer.Option(min=1, help="How many share the load in all.")] = 2,
    database_url: DatabaseUrl = None,
    log_format: LogFormat = "text",
) -> None:
    """Run one more ingest worker, until SIGTERM or Ctrl-C: it takes records from the broker into the inbox."""
    from fleet_server.domain.flood import Rules
    from fleet_server.ingest.pace import Bounds
    from fleet_server.ingest.running import Job, serve

    logs.configure(sys.stderr, "info", log_format, QUIET_LOGGERS)
    home, number = home.resolve(), elsewhere.check_number(number)
    chosen = settings.override(settings.load(home), os.environ, {"broker": broker, "database_url": database_url})
    url = elsewhere.broker_url(home, chosen)
    elsewhere.certify(home, chosen.fleet, number, _now)
    bounds = Bounds(chosen.inbox_max_bytes, chosen.inbox_max_age_s)
    serve(
        Job(
            home,
            number,
            url,
            founding.database_url(home, chosen),
            workers,
            bounds,
            Rules(chosen.flood_messages_per_s, chosen.flood_bytes_per_s),
        )
    )


def ingest_files(
    home: Home,
    number: Number,
    out: Annotated[Path, typer.Option(help="New folder; --home of `fleet-server ingest` on the other machine.")],
    broker: Broker = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Write what an ingest worker on another machine needs: its certificate and key, the CA's certificate, and where broker and database are."""
    chosen = settings.override(settings.load(home), os.environ, {"broker": broker, "database_url": database_url})
    folder = elsewhere.make_files(home.resolve(), chosen, elsewhere.check_number(number), out.resolve(), _now)
    typer.echo(
        f"{folder} is ready; it holds a key and the database's password. There: fleet-server ingest --home {out.name} --number {number}"
    )


def _now() -> datetime:
    return datetime.now(UTC)
