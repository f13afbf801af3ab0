"""`fleet-server trust`: what the key holders have signed comes in, what they are to sign goes out. All of it beside a running server, too."""

import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from fleet_contract import limits
from fleet_server import founding, settings
from fleet_server.domain import expiry
from fleet_server.errors import BadRequest
from fleet_server.options import AsJson, Home
from fleet_server.services import trust
from fleet_server.storage import make_folder, write_atomic
from fleet_server.tables import database
from fleet_server.trust import installation
from fleet_server.trust.keys import OnlineKeys
from fleet_server.trust.repository import TufRepository

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, help="Root of trust and keys of the fleet. See docs/keys.md.")
_BY = "cli"


@app.command(epilog="Example: fleet-server trust install --home ./server ./genesis")
def install(
    home: Home,
    folders: Annotated[list[Path], typer.Argument(metavar="DIR...", help="Folders with N.root.json, N.targets.json, N.releases.json.")],
    as_json: AsJson = False,
) -> None:
    """Verify new root, targets and releases metadata and serve it from now on: all of it or nothing. The server may run."""
    files = {path.name: path for folder in folders for path in _metadata_in(folder)}
    engine = database.connect(founding.database_url(home.resolve(), settings.override(settings.load(home), os.environ, {})))
    try:
        change = trust.install(engine, _repository(home), {name: _read(path) for name, path in files.items()}, by=_BY, now=_now())
    finally:
        engine.dispose()
    told = {"files": sorted(change.files), "versions": change.versions, "revoked": change.revoked, "dropped": change.dropped}
    if as_json:
        typer.echo(json.dumps({**told, "added": change.added}))
        return
    typer.echo(f"installed {', '.join(sorted(change.files)) or 'nothing that is not there already'}")
    for role, keyids in change.revoked.items():
        typer.echo(f"{role}: devices no longer trust {', '.join(keyid[:12] for keyid in keyids)}")
    for path in change.dropped:
        typer.echo(f"releases: {path} is taken back")


@app.command(epilog="Example: fleet-server trust rotate timestamp --home ./server")
def rotate(
    role: Annotated[str, typer.Argument(help="snapshot, timestamp or orders.")],
    home: Home,
    as_json: AsJson = False,
) -> None:
    """Make a new online key. The old one works until metadata that names the new one is installed; then it is gone."""
    chosen, keys = settings.load(home), OnlineKeys(home.resolve() / "keys")
    keyid = keys.begin_rotation(role, chosen.fleet)
    engine = database.connect(founding.database_url(home.resolve(), settings.override(chosen, os.environ, {})))
    try:
        trust.record_rotation(engine, role, keyid, by=_BY, now=_now())
    finally:
        engine.dispose()
    if as_json:
        typer.echo(json.dumps({"role": role, "keyid": keyid, "online": str(keys.online_json)}))
        return
    typer.echo(f"The new {role} key {keyid[:12]} waits. Take the folder that this writes to the key holders:")
    typer.echo(f"  fleet-server trust export --home {home} current")
    typer.echo("There, and then here again:")
    typer.echo(f"  model-tools keys rotate {role} --online current/{keys.online_json.name} --current current --keys KEYS --out next")
    typer.echo(f"  fleet-server trust install --home {home} next")


@app.command(epilog="Example: fleet-server trust export --home ./server ./current")
def export(
    home: Home,
    out: Annotated[Path, typer.Argument(metavar="DIR", help="Where to write; only public things are in it.")],
) -> None:
    """Write what the key holders work from: every root, the newest targets and releases, and online.json."""
    settings.load(home)
    keys, repository = OnlineKeys(home.resolve() / "keys"), _repository(home).opened()
    files = repository.newest()
    for name, data in {**files, keys.online_json.name: _read(keys.online_json)}.items():
        write_atomic(make_folder(out) / name, data)
    typer.echo(f"{out} holds {', '.join(sorted(files))} and {keys.online_json.name}")


@app.command(epilog="Example: fleet-server trust status --home ./server --json")
def status(home: Home, as_json: AsJson = False) -> None:
    """When which metadata expires. Exit code 1 when people have to renew some of it soon."""
    settings.load(home)
    expiries, now = _repository(home).opened().expiries(), _now()
    due = [renewal.role for renewal in expiry.renewals(expiries, now)]
    if as_json:
        typer.echo(json.dumps({"expires": {role: at.isoformat() for role, at in expiries.items()}, "renew": due}))
    else:
        for role, at in expiries.items():
            typer.echo(f"{role:<10} {at:%Y-%m-%d %H:%M}Z, in {(at - now).days} days{'  RENEW' if role in due else ''}")
    raise typer.Exit(1 if due else 0)


def _repository(home: Path) -> TufRepository:
    return TufRepository(home.resolve() / "tuf", home.resolve() / "keys", _now)


def _metadata_in(folder: Path) -> list[Path]:
    found = [path for path in folder.iterdir() if installation.NAME.fullmatch(path.name)] if folder.is_dir() else []
    if not found:
        raise BadRequest(f"{folder} holds no N.root.json, N.targets.json or N.releases.json", field="dir")
    return found


def _read(path: Path) -> bytes:
    """Raises BadRequest for what is too long."""
    with path.open("rb") as file:
        data = file.read(limits.MAX_METADATA_BYTES + 1)
    if len(data) > limits.MAX_METADATA_BYTES:
        raise BadRequest(f"{path} has more than {limits.MAX_METADATA_BYTES} bytes", field=path.name, limit=limits.MAX_METADATA_BYTES)
    return data


def _now() -> datetime:
    return datetime.now(UTC)
