"""`fleet-server sql`."""

import os
import sys
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from fleet_contract import limits
from fleet_server import founding, settings
from fleet_server.errors import BadRequest
from fleet_server.options import Home
from fleet_server.queries.bounds import Bounds
from fleet_server.queries.console import Console
from fleet_server.tables import database

EPILOG = """Examples: fleet-server sql --home ./server "SELECT device, count(*) FROM results GROUP BY device";
fleet-server sql --csv "FROM minutes WHERE minute > 29000000" > minutes.csv; fleet-server sql - < question.sql; fleet-server sql "SHOW TABLES" """


def sql(
    home: Home,
    text: Annotated[str, typer.Argument(metavar="SQL", help="One SELECT, in DuckDB's SQL; - reads it from stdin.", show_default=False)],
    csv: Annotated[bool, typer.Option("--csv", help="Print CSV, all rows.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object: columns and rows.")] = False,
    explain: Annotated[bool, typer.Option("--explain", help="Show how the rows would be found.")] = False,
    rows: Annotated[int, typer.Option(min=1, max=limits.MAX_EXPORT_ROWS, help="Rows of the table that is printed.")] = 200,
    table_rows: Annotated[int, typer.Option(min=1, help="Rows of each of the database's tables that are looked at, newest first.")] = (
        limits.MAX_QUERY_TABLE_ROWS
    ),
    max_seconds: Annotated[float, typer.Option(min=0.1, help="The query is given up after so long.")] = 60.0,
    max_memory: Annotated[
        int, typer.Option(min=64, help="MiB that the query may take; beyond it, it writes to a temporary folder.")
    ] = 1024,
) -> None:
    """Ask the lake and the database, beside a running server. The views: results, minutes, devices, events, ledger, alerts, bundles, rollouts, findings,
    windows, samples, audit. Nothing can be changed, and no other file is read."""
    if csv and as_json:
        raise BadRequest("--csv or --json, not both", field="json")
    question = sys.stdin.read(limits.MAX_QUERY_CHARS + 1) if text == "-" else text
    chosen = settings.override(settings.load(home), os.environ, {})
    engine = database.connect(founding.database_url(home.resolve(), chosen))
    bounds = Bounds(max_s=max_seconds, max_memory_bytes=max_memory * 1024 * 1024)
    try:
        with tempfile.TemporaryDirectory(prefix="edgefleet-sql-") as spill:
            console = Console(engine, home.resolve() / "lake", Path(spill), bounds, lambda text: typer.echo(text, err=True), table_rows)
            _print(console, question.strip().rstrip(";"), "csv" if csv else "json" if as_json else "table", rows, explain)
    finally:
        engine.dispose()


def _print(console: Console, question: str, form: str, rows: int, explain: bool) -> None:
    from fleet_server.queries import formats, printing

    with console.answered(question, explain=explain) as reader:
        if explain:
            for batch in reader:
                typer.echo("\n".join(batch.column("explain_value").to_pylist()))
        elif form == "csv":
            for piece in formats.csv(formats.begun(reader)):
                sys.stdout.buffer.write(piece)
        else:
            for line in printing.json_object(reader) if form == "json" else printing.table(reader, rows):
                typer.echo(line)
