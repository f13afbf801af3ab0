"""The command for a compactor that `fleet-server up` does not start itself."""

import json
import os
import sys
from contextlib import ExitStack
from typing import Annotated

import msgspec
import typer

from fleet_contract import logs
from fleet_server import founding, settings
from fleet_server.options import QUIET_LOGGERS, AsJson, Home, LogFormat


def compact(
    home: Home,
    once: Annotated[bool, typer.Option("--once", help="Take in what waits now, and end.")] = False,
    database_url: Annotated[str | None, typer.Option(help="Overrides the one chosen at init.")] = None,
    log_format: LogFormat = "text",
    as_json: AsJson = False,
) -> None:
    """Take what waits in the inbox into the lake, until SIGTERM or Ctrl-C. The server does this itself while it runs; this is for when it does not."""
    from fleet_server.lake.keeping import Retention
    from fleet_server.lake.running import Job, assemble, serve

    logs.configure(sys.stderr, "info", log_format or "text", QUIET_LOGGERS)
    home = home.resolve()
    chosen = settings.override(settings.load(home), os.environ, {"database_url": database_url})
    kept = Retention(chosen.retention_days, chosen.retention_bytes, chosen.minutes_days)
    job = Job(home, founding.database_url(home, chosen), kept)
    if not once:
        serve(job)
        return
    with ExitStack() as stack:
        compactor = assemble(job, stack)
        while compactor.turn():
            pass
        done = compactor.figures
    if as_json:
        typer.echo(json.dumps(msgspec.to_builtins(done)))
    else:
        typer.echo(
            f"{done.rows} records of {done.segments} segments were new; {done.duplicates} were stored before, {done.malformed} malformed"
        )
