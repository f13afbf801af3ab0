"""The real programs on a machine whose clock says 1970, or ten years from now: they enrol and connect; certificates that have ended are refused."""

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from edge_agent.clock import BUILT_AT, SystemClock
from edge_agent.errors import Retry
from edge_agent.link.https import Bounds, Site
from fleet_contract import mqtt, tls
from fleet_server.mqtt import mosquitto
from tests.fakes.agent_enrol_server import DEVICE, serve_enrolment
from tests.fakes.server_broker import SEARCH_PATH, Place, new_place

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(not shutil.which("faketime"), reason="needs Debian's faketime"),
    pytest.mark.skipif(mosquitto.find(SEARCH_PATH) is None, reason="mosquitto is not installed"),
]

WALLS = [
    pytest.param("1970-01-02 00:00:00", id="at 1970"),
    pytest.param(f"{datetime.now(UTC).year + 10}-01-01 00:00:00", id="ten years ahead"),
]
CONNECT = """
import sys, threading
from dataclasses import fields
from datetime import UTC, datetime
from pathlib import Path
from edge_agent.link.mqtt import Handlers, MqttLink
from fleet_contract.mqtt import Tls
url, device, folder, floor = sys.argv[1:]
folder, floor = Path(folder), datetime.fromisoformat(floor)
tls = Tls(folder / "ca.pem", folder / f"{device}.pem", folder / f"{device}.key", lambda: floor)
link = MqttLink(url, device, tls, epoch="e", at=floor)
sys.stdout.write(f"{datetime.now(UTC).year}\\n")
ignore = lambda _: None
connected = threading.Event()
link.start(Handlers(**dict.fromkeys((field.name for field in fields(Handlers)), ignore) | {"connected": connected.set}))
sys.stdout.write(f"{connected.wait(20)}\\n")
link.close()
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    made = new_place("mosquitto", tmp_path_factory.mktemp("broker"))
    made.child.start()
    yield made
    made.child.close()


def at(wall: str, *command: str) -> subprocess.CompletedProcess[str]:
    """Only the wall clock is wrong on a board without one: the monotonic clock goes on."""
    environment = {**os.environ, "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
    return subprocess.run(["faketime", wall, *command], env=environment, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("wall", WALLS)
def test_the_agents_session_connects_to_a_real_broker(place: Place, wall: str) -> None:
    identity = place.device("dev-1", "clockless")
    done = at(wall, sys.executable, "-c", CONNECT, place.url, "dev-1", str(identity.ca.parent), BUILT_AT.isoformat())
    assert done.stdout.split() == [wall[:4], "True"], done.stderr


@pytest.mark.parametrize("wall", WALLS)
def test_a_device_enrols(tmp_path: Path, wall: str) -> None:
    with serve_enrolment(tmp_path) as server:
        agent = str(Path(sys.executable).with_name("edge-agent"))
        token = server.token().text()
        command = [agent, "enrol", "--server", server.url, "--token", token, "--device", DEVICE, "--state", str(tmp_path / "state")]
        done = at(wall, *command)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "state" / "identity" / "cert.pem").exists()


def test_a_servers_certificate_that_has_ended_at_the_floor_is_refused(place: Place) -> None:
    identity = place.device("dev-2", "late")
    connected, looks = threading.Event(), threading.Semaphore(0)
    after_its_end = datetime.now(UTC) + timedelta(days=398)

    def floor() -> datetime:
        looks.release()
        return after_its_end

    late = mqtt.Tls(identity.ca, identity.certificate, identity.key, floor)
    session = mqtt.Session(place.url, "dev-2", late, subscriptions=[], on_message=lambda *_: None, on_connected=connected.set)
    session.start()
    for _ in range(6):  # the CA and the server at each attempt
        assert looks.acquire(timeout=20.0)
    session.close()
    assert not connected.is_set()


@pytest.mark.parametrize(
    ("floor", "why"),
    [
        pytest.param(datetime.now(UTC) + timedelta(days=2), "ended at", id="a certificate that has ended"),
        pytest.param(datetime.now(UTC), None, id="one that has not"),
    ],
)
def test_https_dates_certificates_by_the_floor(tmp_path: Path, floor: datetime, why: str | None) -> None:
    with serve_enrolment(tmp_path) as server:
        known = datetime.now(UTC)
        moment = [known]
        site = Site(server.url, SystemClock(), tls.client_context(server.authority.pem.decode(), lambda: moment[0]), Bounds())
        moment[0] = floor
        if why is None:
            assert site.read("v1/ca.pem", 10_000) == server.authority.pem
        else:
            with pytest.raises(Retry, match=why) as caught:
                site.read("v1/ca.pem", 10_000)
            assert caught.value.code == "untrusted-server"


def test_a_ca_that_has_ended_is_refused(tmp_path: Path) -> None:
    with serve_enrolment(tmp_path) as server, pytest.raises(OSError, match="the CA's certificate ended"):
        tls.client_context(server.authority.pem.decode(), lambda: datetime.now(UTC) + timedelta(days=2))
