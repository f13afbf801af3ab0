"""The options that several commands of the command line share."""

from pathlib import Path
from typing import Annotated

import typer

from fleet_contract.logs import Form

Home = Annotated[Path, typer.Option(envvar="EDGEFLEET_HOME", help="The server's folder: database, CA, online keys, repository.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
LogFormat = Annotated[Form | None, typer.Option(envvar="EDGEFLEET_LOG_FORMAT", help="text, or json: one JSON object a line.")]
QUIET_LOGGERS = {"alembic": "warning", "uvicorn": "warning", "tuf": "warning"}
"""Libraries that say more than anybody wants to read."""
