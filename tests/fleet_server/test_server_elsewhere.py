"""A broker and a database that somebody else runs: the same server, another URL."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from fleet_contract import messages, topics
from fleet_contract.messages import Ack, Lane, Status
from fleet_contract.topics import Up
from fleet_server.mqtt import mosquitto
from fleet_server.settings import Settings
from tests.fakes.server_process import DEVICE, PATIENCE_S, Running, enrol, found, serving, started

pytestmark = pytest.mark.e2e
MOSQUITTO = mosquitto.find(os.environ.get("PATH", os.defpath))
needs_mosquitto = pytest.mark.skipif(MOSQUITTO is None, reason="mosquitto is not installed")


def broker_files(home: Path, out: Path, *more: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "fleet_server", "broker-files", "--home", home, "--out", out, "--host", "localhost", *more]
    return subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=PATIENCE_S, check=False)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


@contextmanager
def own_mosquitto(home: Path, folder: Path) -> Iterator[str]:
    """A Mosquitto of ours on the files that the server made for it, as a user who owns them; yields its URL."""
    port = free_port()
    done = broker_files(home, folder, "--port", port, "--address", "127.0.0.1")
    assert done.returncode == 0, done.stderr
    as_root = ["-c", str(folder / "mosquitto.conf")]
    if os.geteuid() == 0:
        (folder / "root.conf").write_text((folder / "mosquitto.conf").read_text() + "user root\n")
        as_root = ["-c", str(folder / "root.conf")]
    with (folder / "log").open("wb") as log, subprocess.Popen([MOSQUITTO, *as_root], stdout=log, stderr=log) as process:
        try:
            yield f"mqtts://localhost:{port}"
        finally:
            process.terminate()
            process.wait(PATIENCE_S)


def record_once(server: Running, folder: Path) -> None:
    """One device enrols, says that it is there and has one record acknowledged."""
    device = enrol(server, folder)
    session = device.session()
    session.start()
    try:
        assert session.wait_connected(PATIENCE_S)
        hello = Status(at=datetime.now(UTC), online=True, epoch="e1")
        session.publish(topics.up(DEVICE, Up.STATUS), messages.encode(hello), retain=True)
        session.publish(topics.up(DEVICE, Up.RECORDS), started(0))
        assert device.came.get(timeout=PATIENCE_S) == Ack(epoch="e1", lane=Lane.EVENTS, ranges=[(0, 0)])
        server.until(lambda: server.http.get(f"/v1/devices/{DEVICE}").json()["online"])
    finally:
        session.close()
    server.until(lambda: [event["kind"] for event in server.http.get("/v1/events").json()["items"]] == ["agent.started"])


@needs_mosquitto
def test_a_broker_that_is_run_elsewhere_is_used_under_the_same_rules(tmp_path: Path) -> None:
    token = found(tmp_path)
    with own_mosquitto(tmp_path / "home", tmp_path / "broker") as url, serving(tmp_path, url, token) as server:
        assert (server.state["broker_url"], server.state["broker_kind"], server.state["broker_pid"]) == (url, "external", None)
        record_once(server, tmp_path)
        device = enrol(server, tmp_path)
        with_rights_of_one = device.session()
        with_rights_of_one.start()
        assert with_rights_of_one.wait_connected(PATIENCE_S)
        with_rights_of_one.publish(topics.up("victim", Up.RECORDS), started(0))
        with_rights_of_one.publish(topics.up(DEVICE, Up.RECORDS), started(1))
        assert device.came.get(timeout=PATIENCE_S) == Ack(epoch="e1", lane=Lane.EVENTS, ranges=[(1, 1)])
        with_rights_of_one.close()
        server.until(lambda: 'edgefleet_ingest_messages_total{worker="ingest_1"} 2.0' in server.http.get("/metrics").text)
        refused = [line for line in server.http.get("/metrics").text.splitlines() if line.startswith("edgefleet_ingest_refused_total{")]
        assert refused == [], "the broker let a record through as another device's"


@needs_mosquitto
def test_the_server_waits_for_a_broker_that_is_not_up_yet(tmp_path: Path) -> None:
    with serving(tmp_path, f"mqtts://localhost:{free_port()}") as server:
        health = server.http.get("/v1/health").json()
        assert (health["status"], health["broker"]["connected"]) == ("degraded", False)


def test_broker_files_are_private_and_never_overwritten(tmp_path: Path) -> None:
    found(tmp_path)
    assert broker_files(tmp_path / "home", tmp_path / "out").returncode == 0
    assert {path.name for path in (tmp_path / "out").iterdir()} >= {"ca.pem", "broker.pem", "broker.key", "acl.conf", "mosquitto.conf"}
    assert (tmp_path / "out").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "out" / "broker.key").stat().st_mode & 0o777 == 0o600
    assert "user root" not in (tmp_path / "out" / "mosquitto.conf").read_text()
    again = broker_files(tmp_path / "home", tmp_path / "out")
    assert (again.returncode, "not empty" in again.stderr) == (2, True)
    odd = broker_files(tmp_path / "home", tmp_path / "odd", "--host", "two words")
    assert (odd.returncode, (tmp_path / "odd").exists()) == (2, False)


def test_a_postgresql_holds_all_that_the_server_knows(tmp_path: Path, postgres_url: str) -> None:
    admin = create_engine(postgres_url, isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(text("CREATE DATABASE elsewhere"))
    url = postgres_url.replace("/postgres?", "/elsewhere?")
    try:
        token = found(tmp_path, Settings(database_url=url))
        with serving(tmp_path, "auto", token) as server:
            record_once(server, tmp_path)
            assert server.http.get("/v1/audit/verify").json()["intact"]
        with serving(tmp_path, "auto", token) as server:
            assert [item["id"] for item in server.http.get("/v1/devices").json()["items"]] == [DEVICE]
        assert not (tmp_path / "home" / "fleet.db").exists()
        assert json.loads((tmp_path / "home" / "server.json").read_bytes())["database_url"] == url
    finally:
        with admin.connect() as connection:
            connection.execute(text("DROP DATABASE elsewhere WITH (FORCE)"))
        admin.dispose()
