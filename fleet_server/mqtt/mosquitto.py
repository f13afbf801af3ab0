"""Mosquitto as a child: its configuration, generated anew at every start."""

import os
import shutil
from pathlib import Path

from fleet_contract import limits, topics
from fleet_contract.topics import Down, Up
from fleet_server.mqtt.listener import Listener
from fleet_server.storage import make_folder, write_atomic
from fleet_server.trust.device_ca import SERVER_IDENTITY, WORKER_IDENTITIES

_DEBIAN_FOLDER = "/usr/sbin"
"""Where Debian installs mosquitto; not on the PATH of ordinary users."""

_MAX_QUEUED_MESSAGES = 50_000
_MAX_QUEUED_BYTES = 128 * limits.MIB
"""For each client, beyond its credit. An ingest worker that is held up gets what all devices have in flight; above this the broker drops, and they
send again."""


def find(search_path: str) -> str | None:
    """The program's absolute path, or None."""
    return shutil.which("mosquitto", path=os.pathsep.join((search_path, _DEBIAN_FOLDER)))


def configure(listener: Listener, user_id: int) -> Path:
    """Write mosquitto.conf and its ACL into the listener's folder. Returns the path of the configuration.

    Started by root (`user_id` 0), Mosquitto stays root: else it would become the user mosquitto, who may not read the key.
    """
    folder = Path(listener.folder)
    store = make_folder(folder / "store", 0o700)
    acl, configuration = folder / "acl.conf", folder / "mosquitto.conf"
    write_atomic(acl, _acl(listener.excluded).encode(), 0o600)
    write_atomic(configuration, _settings(listener, acl, store, user_id).encode(), 0o600)
    return configuration


def _acl(excluded: tuple[str, ...]) -> str:
    """Mosquitto looks at a user's own lines before the patterns, and at a topic when it delivers, not at the filter of a subscription: a device can
    listen to every shared pass with a wildcard, and so to nothing but files that it may ask for anyhow."""
    everything = (f"user {SERVER_IDENTITY}", f"topic readwrite {topics.ROOT}/#", "")
    records, acks = topics.all_up(Up.RECORDS), topics.all_down_of(Down.ACK)
    workers = [line for name in WORKER_IDENTITIES for line in (f"user {name}", f"topic read {records}", f"topic write {acks}", "")]
    denied = [line for device in excluded for line in (f"user {device}", "topic deny #", "")]
    return "\n".join((*everything, *workers, *denied, *topics.mosquitto_patterns(), ""))


def _settings(listener: Listener, acl: Path, store: Path, user_id: int) -> str:
    """`use_username_as_clientid` ends the theft of another device's session by naming its client id."""
    lines = [
        "per_listener_settings false",
        "allow_anonymous false",
        f"acl_file {acl}",
        f"listener {listener.port} {listener.address}",
        f"cafile {listener.ca}",
        f"certfile {listener.certificate}",
        f"keyfile {listener.key}",
        "tls_version tlsv1.2",
        "require_certificate true",
        "use_identity_as_username true",
        "use_username_as_clientid true",
        "persistence true",
        f"persistence_location {store}/",
        "autosave_interval 60",
        "persistent_client_expiration 7d",
        f"max_packet_size {limits.MAX_MQTT_PACKET_BYTES}",
        "max_inflight_messages 200",
        f"max_queued_messages {_MAX_QUEUED_MESSAGES}",
        f"max_queued_bytes {_MAX_QUEUED_BYTES}",
        "max_keepalive 120",
        "log_dest stderr",
        "log_timestamp_format %Y-%m-%dT%H:%M:%S",
        *(f"log_type {kind}" for kind in ("error", "warning", "notice")),
        "connection_messages false",
    ]
    if listener.crl is not None:
        lines.insert(lines.index("require_certificate true"), f"crlfile {listener.crl}")
    if user_id == 0:
        lines.append("user root")
    return "\n".join((*lines, ""))
