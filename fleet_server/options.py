"""The options that several commands of the command line share."""

from pathlib import Path
from typing import Annotated

import typer

Home = Annotated[Path, typer.Option(envvar="EDGEFLEET_HOME", help="The server's folder: database, CA, online keys, repository.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
