"""The compactor: `python -m fleet_server.lake --home HOME --database-url URL`. People use `fleet-server compact`."""

import argparse
import os
import sys
from pathlib import Path

from sqlalchemy.exc import SQLAlchemyError

from fleet_contract import logs
from fleet_server.children import DATABASE_VARIABLE
from fleet_server.errors import ServerError, brief
from fleet_server.lake.keeping import Retention
from fleet_server.lake.running import Job, serve


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser("python -m fleet_server.lake", description=__doc__)
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--database-url", default=os.environ.get(DATABASE_VARIABLE), help=f"by default ${DATABASE_VARIABLE}")
    parser.add_argument("--retention-days", type=int)
    parser.add_argument("--retention-bytes", type=int)
    parser.add_argument("--minutes-days", type=int)
    parser.add_argument("--log-format", choices=logs.FORMS, default="text")
    chosen = parser.parse_args(arguments)
    if not chosen.database_url:
        parser.error("--database-url is missing")
    logs.configure(sys.stderr, "info", chosen.log_format)
    try:
        serve(Job(chosen.home, chosen.database_url, Retention(chosen.retention_days, chosen.retention_bytes, chosen.minutes_days)))
    except (ServerError, SQLAlchemyError, OSError) as error:
        sys.exit(brief(error))


if __name__ == "__main__":
    main(sys.argv[1:])
