"""One ingest worker: `python -m fleet_server.ingest --home HOME --number 1 --broker URL --database-url URL`. People use `fleet-server ingest`."""

import argparse
import os
import sys
from pathlib import Path

from sqlalchemy.exc import SQLAlchemyError

from fleet_contract import logs
from fleet_contract.errors import ContractError
from fleet_server.children import DATABASE_VARIABLE
from fleet_server.domain.flood import Rules
from fleet_server.errors import ServerError, brief
from fleet_server.ingest.pace import Bounds
from fleet_server.ingest.running import Job, serve


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser("python -m fleet_server.ingest", description=__doc__)
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--number", type=int, default=1)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--broker", required=True)
    parser.add_argument("--database-url", default=os.environ.get(DATABASE_VARIABLE), help=f"by default ${DATABASE_VARIABLE}")
    parser.add_argument("--backlog-bytes", type=int, default=Bounds().backlog_bytes)
    parser.add_argument("--backlog-s", type=float, default=Bounds().backlog_s)
    parser.add_argument("--flood-messages-per-s", type=float, default=Rules().messages_per_s)
    parser.add_argument("--flood-bytes-per-s", type=float, default=Rules().bytes_per_s)
    parser.add_argument("--log-format", choices=logs.FORMS, default="text")
    chosen = parser.parse_args(arguments)
    if not chosen.database_url:
        parser.error("--database-url is missing")
    logs.configure(sys.stderr, "info", chosen.log_format, {"alembic": "warning"})
    bounds, flood = Bounds(chosen.backlog_bytes, chosen.backlog_s), Rules(chosen.flood_messages_per_s, chosen.flood_bytes_per_s)
    try:
        serve(Job(chosen.home, chosen.number, chosen.broker, chosen.database_url, chosen.workers, bounds, flood))
    except (ServerError, ContractError, SQLAlchemyError) as error:
        sys.exit(brief(error))


if __name__ == "__main__":
    main(sys.argv[1:])
