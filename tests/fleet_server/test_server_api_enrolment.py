"""Enrolment over HTTP: one token, one device, once."""

import base64
import hashlib
import threading
from datetime import datetime

import pytest

from fleet_contract.enrolment import EnrolRequest
from fleet_contract.enrolment import parse as parse_token
from fleet_server.errors import Conflict, ServerError
from fleet_server.services import enrolment
from tests.fakes.server_api import Api
from tests.fakes.server_world import World

WANTED = {"device_id": "cam-1", "profile": "generic-x86-64", "task": "toy", "lifetime_s": 60}


def invite(api: Api, **changes: object) -> dict:
    return api.post("/v1/enrolment-tokens", WANTED | changes).json()


def enrol(api: Api, token: str, **changes: object):
    parsed = parse_token(token)
    body = {"token_id": parsed.id, "secret": parsed.secret, "csr_pem": "CSR cam-1"} | changes
    return api.post("/v1/enrol", body, role="")


def test_a_token_becomes_a_device(api: Api) -> None:
    made = invite(api)
    assert (datetime.fromisoformat(made["expires_at"]) - api.world.clock()).total_seconds() == 60
    answer = enrol(api, made["token"])
    assert answer.status_code == 200
    body = answer.json()
    assert (body["device_id"], body["fleet"], body["certificate_pem"]) == ("cam-1", "testing", "CERTIFICATE cam-1 1")
    assert body["broker_url"] == "mqtts://localhost:8883"
    token = parse_token(made["token"])
    assert hashlib.sha256(base64.b64decode(body["root_base64"])).hexdigest() == token.root_sha256
    assert [device["id"] for device in api.get("/v1/devices").json()["items"]] == ["cam-1"]


def test_a_token_works_once(api: Api) -> None:
    token = invite(api)["token"]
    enrol(api, token)
    again = enrol(api, token)
    assert (again.status_code, again.json()["error"]["code"]) == (409, "token-used")


def test_an_expired_token_is_gone(api: Api) -> None:
    token = invite(api)["token"]
    api.world.clock.forward(seconds=60)
    answer = enrol(api, token)
    assert (answer.status_code, answer.json()["error"]["code"]) == (410, "token-expired")


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        pytest.param({"secret": "x" * 43}, 401, id="wrong secret"),
        pytest.param({"token_id": "0123456789ab"}, 401, id="unknown id"),
        pytest.param({"csr_pem": "CSR cam-2"}, 400, id="a CSR for another device"),
        pytest.param({"csr_pem": "x" * 9000}, 422, id="a CSR that is too long"),
    ],
)
def test_a_refused_request_leaves_the_token_unused(api: Api, changes: dict, status: int) -> None:
    token = invite(api)["token"]
    assert enrol(api, token, **changes).status_code == status
    assert enrol(api, token).status_code == 200


@pytest.mark.parametrize(
    ("changes", "status", "field"),
    [
        pytest.param({"device_id": "Cam_1"}, 400, "device_id", id="charset"),
        pytest.param({"device_id": "x" * 65}, 400, "device_id", id="too long"),
        pytest.param({"device_id": "fleet-server"}, 400, "device_id", id="the server's own name"),
        pytest.param({"device_id": "fleet-broker"}, 400, "device_id", id="the broker's name"),
        pytest.param({"profile": "toaster"}, 400, "profile", id="unknown profile"),
        pytest.param({"task": "../x"}, 400, "task", id="task charset"),
        pytest.param({"lifetime_s": 0}, 422, "lifetime_s", id="no lifetime"),
        pytest.param({"lifetime_s": 10**9}, 422, "lifetime_s", id="too long a lifetime"),
    ],
)
def test_what_a_token_cannot_be_made_for(api: Api, changes: dict, status: int, field: str) -> None:
    answer = api.post("/v1/enrolment-tokens", WANTED | changes)
    assert (answer.status_code, answer.json()["error"]["field"]) == (status, field)


def test_a_device_that_enrols_again_keeps_its_place_and_counter(api: Api) -> None:
    enrol(api, invite(api)["token"])
    sha256 = api.publish()
    api.post("/v1/rollouts", {"bundle": sha256})
    api.world.settle()
    enrol(api, invite(api)["token"])
    device = api.get("/v1/devices/cam-1").json()
    assert (device["desired_bundle"], device["issued_counter"]) == (sha256, 1)


def test_of_many_racing_requests_one_wins(world: World) -> None:
    made = enrolment.create_token(world.fleet, **WANTED, by="test", now=world.clock())
    token = parse_token(made.token)
    request = EnrolRequest(token_id=token.id, secret=token.secret, csr_pem="CSR cam-1")
    outcomes: list[type | str] = []
    together = threading.Barrier(6)

    def race() -> None:
        together.wait()
        try:
            outcomes.append(enrolment.enrol(world.fleet, request, world.clock()).device_id)
        except ServerError as error:
            outcomes.append(type(error))

    threads = [threading.Thread(target=race) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(map(str, outcomes)) == sorted(map(str, ["cam-1"] + [Conflict] * 5))


def test_secrets_are_not_in_the_database(api: Api, tmp_path) -> None:
    token = invite(api)["token"]
    api.world.engine.dispose()
    stored = b"".join(path.read_bytes() for path in tmp_path.glob("fleet.db*"))
    assert parse_token(token).secret.encode() not in stored
    assert api.tokens["admin"].split("_")[2].encode() not in stored
