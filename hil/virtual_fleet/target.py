"""The server that a virtual fleet plays with: one that runs already, or one of its own."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from hil.client import Client
from hil.errors import BadScenario
from hil.fleet import FleetRig
from hil.screen import Screen
from hil.virtual_fleet.identities import Identities
from hil.virtual_fleet.play import Target

_TOKEN = re.compile(r"eft_[A-Za-z0-9_-]+")
_BROKERS = ("auto", "mosquitto", "embedded")


@dataclass(frozen=True)
class Remote:
    """`identities` is kept from run to run."""

    url: str
    ca: Path
    token_file: Path
    identities: Path


@dataclass(frozen=True)
class Own:
    """Everything below `home`, which is wiped. `bundle` is published and rolled out to all."""

    home: Path
    broker: str = "auto"
    database_url: str | None = None
    bundle: Path | None = None


@contextmanager
def reached(remote: Remote) -> Iterator[Target]:
    """Raises BadScenario for files that cannot be read."""
    try:
        token = remote.token_file.read_text().strip()
        api = Client(remote.url, remote.ca, _checked(token))
    except (OSError, UnicodeDecodeError) as error:
        raise BadScenario(f"--token-file, --ca: {error}") from error
    with api:
        yield Target(api, remote.url, Identities(remote.identities), remote.identities / "fleet.log")


def _checked(token: str) -> str:
    """Raises BadScenario, which does not repeat what may be a secret."""
    if not _TOKEN.fullmatch(token):
        raise BadScenario("--token-file: the file holds no API token, which begins with eft_, and nothing else")
    return token


@contextmanager
def started(own: Own, screen: Screen) -> Iterator[Target]:
    """Says what it waits for, and ends all its processes. Raises RigError."""
    if own.bundle is not None and not own.bundle.is_file():
        raise BadScenario(f"--bundle: {own.bundle} is not a file")
    if own.broker not in _BROKERS:
        raise BadScenario(f"--broker: {own.broker!r} is none of {', '.join(_BROKERS)}")
    with FleetRig(own.home.resolve()) as rig:
        with screen.step(f"Making a server of its own in {rig.home}: keys, CA and database"):
            rig.server.initialise("virtual", ["--database-url", own.database_url] if own.database_url else [])
        with screen.step(f"Waiting for the server, its broker and its ingest workers (log: {rig.logs / 'server.log'})"):
            rig.start_server(broker=own.broker, tasks=[])
        identities = Identities(rig.home / "identities")
        yield Target(rig.api, rig.server.state().https_url, identities, rig.logs / "fleet.log", lambda: _publish(rig, own.bundle, screen))


def _publish(rig: FleetRig, bundle: Path | None, screen: Screen) -> None:
    if bundle is not None:
        with screen.step(f"Publishing {bundle.name} and rolling it out"):
            rig.publish(bundle)
