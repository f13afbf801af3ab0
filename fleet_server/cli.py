"""The command line, in the order of --help: what a new fleet needs, then what few do. Exit codes: 0 ok, 1 failed, 2 bad input."""

import json
import os
import secrets
import sys
import traceback
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from sqlalchemy.exc import SQLAlchemyError

from fleet_contract import logs, online_keys
from fleet_contract.errors import ContractError
from fleet_server import founding, settings
from fleet_server.errors import BadRequest, Conflict, NotFound, ServerError
from fleet_server.founding import Listening
from fleet_server.ingest import cli as ingest_cli
from fleet_server.lake import cli as lake_cli
from fleet_server.options import QUIET_LOGGERS, AsJson, Home, LogFormat
from fleet_server.queries import cli as queries
from fleet_server.services import tokens
from fleet_server.tables import database
from fleet_server.trust.cli import app as trust_app
from fleet_server.trust.keys import OnlineKeys

app = typer.Typer(
    no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help="The control plane of a fleet of edge devices."
)
token_app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, help="API tokens.")
app.add_typer(token_app, name="token")
app.add_typer(trust_app, name="trust")


@app.callback()
def options(debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an unforeseen error.")] = False) -> None:
    """What holds for every command; `main` acts on it."""


@app.command(epilog="Examples: fleet-server init --home ./server --host fleet.example; to try it out: ... --keys ./offline-keys")
def init(
    home: Home,
    keys: Annotated[
        Path | None, typer.Option(help="To try it out: make the offline keys too, unencrypted, in this folder. Move it off this machine.")
    ] = None,
    fleet: Annotated[str, typer.Option(help="The fleet's name; part of every device's identity.")] = "demo",
    host: Annotated[str, typer.Option(help="Name or IP address by which devices reach this server.")] = "localhost",
    database_url: Annotated[str | None, typer.Option(help="Any SQLAlchemy URL; SQLite in the home by default.")] = None,
    as_json: AsJson = False,
) -> None:
    """Make a new fleet server: CA, online keys, database and an admin token, which is shown this once. Its root of trust is made elsewhere, by
    those who hold the offline keys (docs/keys.md), unless --keys asks for all of it at once."""
    chosen = settings.check(settings.Settings(fleet=fleet, host=host, database_url=database_url))
    token = founding.found(home.resolve(), keys.resolve() if keys else None, chosen, _now)
    server_keys = OnlineKeys(home.resolve() / "keys")
    online, keyids = server_keys.online_json, server_keys.announced()
    if as_json:
        made = {"home": str(home.resolve()), "keys": str(keys.resolve()) if keys else None, "online": str(online)}
        typer.echo(json.dumps({**made, "fleet": fleet, "admin_token": token, "keyids": keyids}))
        return
    typer.echo(f"Admin token (shown only now): {token}")
    if keys:
        typer.echo(f"Fleet {fleet!r} is ready in {home}; its offline keys are in {keys}, unencrypted: move them to a safe place.")
    else:
        typer.echo(f"Keys of this server: {', '.join(f'{role} {keyid[:12]}' for role, keyid in keyids.items())}")
        typer.echo(f"Take {online} to where the offline keys are kept, and there:")
        typer.echo(f"  model-tools keys ceremony --online {online_keys.FILE} --keys KEYS --out genesis")
        typer.echo(f"Bring the folder genesis back: fleet-server trust install --home {home} genesis")
    typer.echo(f"{'Next' if keys else 'Then'}: fleet-server up --home {home}")


@app.command(epilog="Example: fleet-server up --home ./server --task task.toml --releases-key ./offline-keys/releases.pem")
def up(
    home: Home,
    broker: Annotated[str | None, typer.Option(help="auto, mosquitto, embedded, or mqtts://host:port of one that runs.")] = None,
    https_port: Annotated[int | None, typer.Option(help="0 for any free port.")] = None,
    mqtt_port: Annotated[int | None, typer.Option(help="0 for any free port.")] = None,
    task: Annotated[list[Path] | None, typer.Option(help="Task file that retraining jobs may use; may be repeated.")] = None,
    releases_key: Annotated[Path | None, typer.Option(help="Key (PEM) with which jobs sign challengers.")] = None,
    database_url: Annotated[str | None, typer.Option(help="Overrides the one chosen at init.")] = None,
    address: Annotated[str | None, typer.Option(help="IP address to listen on.")] = None,
    delivery_transport: Annotated[
        str | None,
        typer.Option(help="mqtt or http: how new orders prefer their bundle to be fetched; a device's own setting goes before it."),
    ] = None,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log more.")] = False,
    log_format: LogFormat = None,
) -> None:
    """Run the server: broker, MQTT, control loop and HTTPS, until SIGTERM or Ctrl-C."""
    from fleet_server.app import serve  # the other commands start without loading the web framework
    from fleet_server.running import RunState

    options = {
        "broker": broker,
        "https_port": https_port,
        "mqtt_port": mqtt_port,
        "tasks": tuple(str(path.resolve()) for path in task or ()),
        "releases_key": str(releases_key.resolve()) if releases_key else None,
        "database_url": database_url,
        "address": address,
        "delivery_transport": delivery_transport,
        "log_format": log_format,
    }
    chosen = settings.override(settings.load(home), os.environ, options)
    logs.configure(sys.stderr, "debug" if verbose else "info", chosen.log_format, QUIET_LOGGERS)

    def announce(state: RunState) -> None:
        typer.echo(f"ready: {state.https_url} (API, docs at /docs), {state.broker_url} ({state.broker_kind} broker)")
        sys.stdout.flush()

    serve(home, chosen, os.environ, announce)


app.command("sql", epilog=queries.EPILOG)(queries.sql)


@token_app.command("create", epilog="Example: fleet-server token create --home ./server --role operator")
def token_create(
    home: Home,
    role: Annotated[str, typer.Option(help="viewer, operator or admin.")],
    as_json: AsJson = False,
) -> None:
    """Make an API token and print it, this once."""
    engine = _database(home)
    try:
        token = tokens.create(engine, role, by="cli", now=_now(), new_secret=secrets.token_urlsafe)
    finally:
        engine.dispose()
    typer.echo(json.dumps({"role": role, "token": token}) if as_json else token)


@app.command("broker-files", epilog="Example: fleet-server broker-files --home ./server --host mqtt.example --out /etc/mosquitto/fleet")
def broker_files(
    home: Home,
    host: Annotated[list[str], typer.Option(help="Name or IP address by which devices reach the broker; may be repeated.")],
    out: Annotated[Path, typer.Option(help="New folder for the files. They name each other by its absolute path.")],
    port: Annotated[int, typer.Option(min=1, max=65_535)] = 8883,
    address: Annotated[str, typer.Option(help="IP address that the broker listens on.")] = "0.0.0.0",
) -> None:
    """Write certificate, key, ACL and configuration for a Mosquitto that you run yourself."""
    chosen = settings.load(home)
    folder = founding.make_broker_files(home.resolve(), chosen.fleet, out.resolve(), Listening(tuple(host), address, port), _now)
    typer.echo(f"{folder} is ready for `mosquitto -c {folder / 'mosquitto.conf'}`; its user must own the folder.")
    typer.echo(f"Then: fleet-server up --home {home} --broker mqtts://{host[0]}:{port}")


@app.command(epilog="Example: fleet-server migrate --home ./server")
def migrate(home: Home) -> None:
    """Bring the database to this version's schema. Stop the server first."""
    engine = _database(home)
    try:
        database.migrate(engine)
    finally:
        engine.dispose()
    typer.echo("the database is up to date")


app.command("ingest", epilog="Example: fleet-server ingest --home ./server --number 2")(ingest_cli.ingest)
app.command(
    "ingest-files",
    epilog="Example: fleet-server ingest-files --home ./server --number 2 --broker mqtts://mqtt.example:8883"
    " --database-url postgresql+psycopg://fleet:...@db.example/fleet --out ./worker-2",
)(ingest_cli.ingest_files)
app.command("compact", epilog="Examples: fleet-server compact --home ./server --once; ... --once --json")(lake_cli.compact)


def main() -> None:
    """Entry point: every failure is one line on stderr; a traceback could show secrets, and comes only with --debug."""
    try:
        app()
    except (BadRequest, NotFound, Conflict, ContractError) as error:
        _fail(str(error), 2)
    except (ServerError, OSError) as error:
        _fail(str(error), 1)
    except SQLAlchemyError as error:
        _fail(f"the database does not answer: {str(getattr(error, 'orig', None) or error).strip()}", 1)
    except Exception as error:  # noqa: BLE001 - the last line of defence of the program
        if "--debug" in sys.argv:
            traceback.print_exc()
        _fail(f"a mistake in this program: {type(error).__name__}: {error} (fleet-server --debug COMMAND shows where)", 1)


def _fail(text: str, code: int) -> None:
    sys.stderr.write(f"fleet-server: {text}\n")
    sys.exit(code)


def _database(home: Path):
    chosen = settings.override(settings.load(home), os.environ, {})
    return database.connect(founding.database_url(home.resolve(), chosen))


def _now() -> datetime:
    return datetime.now(UTC)
