"""Who may do what, and what an error looks like."""

from collections.abc import AsyncIterator

import pytest

from fleet_contract import limits
from tests.fakes.server_api import Api

READS = (
    "/v1/devices",
    "/v1/ledger",
    "/v1/bundles",
    "/v1/rollouts",
    "/v1/telemetry",
    "/v1/telemetry/summary",
    "/v1/events",
    "/v1/drift",
    "/v1/drift/windows",
    "/v1/samples",
    "/v1/jobs",
    "/v1/audit",
    "/v1/audit/verify",
    "/metrics",
)
CHANGES = (
    ("/v1/enrolment-tokens", {"device_id": "d", "profile": "generic-x86-64", "task": "toy"}),
    ("/v1/rollouts", {"bundle": "a" * 64}),
    ("/v1/rollouts/1/approve", None),
    ("/v1/rollouts/1/stop", None),
    ("/v1/labels", {"labels": [{"sample": 1, "label": "x"}]}),
    ("/v1/jobs", {"task": "toy"}),
    ("/v1/bundles", None),
)
OPEN = ("/v1/health", "/v1/ca.pem", "/v1/tuf/releases.json", "/docs", "/openapi.json")


@pytest.mark.parametrize("path", READS)
def test_reading_needs_a_viewer(api: Api, path: str) -> None:
    refused = api.get(path, role="")
    assert (refused.status_code, refused.json()["error"]["code"]) == (401, "unauthorised")
    assert refused.headers["www-authenticate"] == "Bearer"
    assert api.get(path, role="viewer").status_code == 200


@pytest.mark.parametrize(("path", "body"), CHANGES, ids=[path for path, _ in CHANGES])
def test_changing_needs_an_operator(api: Api, path: str, body: object) -> None:
    assert api.post(path, body, role="").status_code == 401
    refused = api.post(path, body, role="viewer")
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "forbidden")
    assert api.post(path, body, role="admin").status_code not in (401, 403)


@pytest.mark.parametrize("path", OPEN)
def test_what_needs_no_token(api: Api, path: str) -> None:
    assert api.get(path, role="").status_code == 200


@pytest.mark.parametrize(
    "token",
    [
        pytest.param("nonsense", id="not a token"),
        pytest.param("eft_0123456789ab_" + "s" * 43, id="unknown"),
        pytest.param("eft_" + "x" * limits.MAX_TOKEN_CHARS, id="too long"),
    ],
)
def test_a_bad_token_is_refused_and_never_repeated(api: Api, token: str) -> None:
    answer = api.get("/v1/devices", role="", headers={"Authorization": f"Bearer {token}"})
    assert answer.status_code == 401
    assert token not in answer.text


def test_the_right_id_with_another_secret_is_refused(api: Api) -> None:
    token = api.tokens["admin"][:-1] + ("0" if api.tokens["admin"][-1] != "0" else "1")
    assert api.get("/v1/devices", role="", headers={"Authorization": f"Bearer {token}"}).status_code == 401


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code", "field"),
    [
        pytest.param("GET", "/v1/nothing", None, 404, "not-found", None, id="no such path"),
        pytest.param("GET", "/v1/devices/ghost", None, 404, "not-found", "device", id="no such device"),
        pytest.param("GET", "/v1/bundles/abc", None, 404, "not-found", "bundle", id="no such bundle"),
        pytest.param("GET", "/v1/rollouts/9", None, 404, "not-found", "rollout", id="no such rollout"),
        pytest.param("GET", "/v1/jobs/9", None, 404, "not-found", "job", id="no such job"),
        pytest.param("GET", "/v1/samples/9/content", None, 404, "not-found", "sample", id="no such sample"),
        pytest.param("GET", "/v1/tuf/9.root.json", None, 404, "not-found", "path", id="no such metadata"),
        pytest.param("DELETE", "/v1/devices", None, 405, "method-not-allowed", None, id="method"),
        pytest.param("GET", "/v1/telemetry?after=x", None, 400, "bad-request", "after", id="a cursor that nobody gave"),
        pytest.param("GET", "/v1/telemetry?limit=1001", None, 422, "invalid", "limit", id="page too long"),
        pytest.param("GET", "/v1/rollouts/x", None, 422, "invalid", "rollout", id="not a number"),
        pytest.param("GET", f"/v1/rollouts/{2**64}", None, 422, "invalid", "rollout", id="a number no database takes"),
        pytest.param("GET", "/v1/telemetry?device=%00", None, 422, "invalid", "device", id="NUL in a filter"),
        pytest.param("POST", "/v1/rollouts", {"bundle": "a\0"}, 422, "invalid", "bundle", id="NUL in a body"),
        pytest.param("POST", "/v1/jobs", {}, 422, "invalid", "task", id="missing field"),
        pytest.param("POST", "/v1/jobs", {"task": "toy", "x": 1}, 422, "invalid", "x", id="unknown field"),
        pytest.param("POST", "/v1/jobs", {"task": "none"}, 400, "bad-request", "task", id="unknown task"),
        pytest.param("POST", "/v1/jobs", {"task": "toy"}, 404, "not-found", "task", id="nothing to challenge yet"),
        pytest.param("POST", "/v1/labels", {"labels": []}, 422, "invalid", "labels", id="no labels"),
        pytest.param("POST", "/v1/labels", {"labels": [{"sample": -1, "label": "x"}]}, 422, "invalid", "labels[0].sample", id="in a list"),
    ],
)
def test_every_error_has_one_shape(api: Api, method: str, path: str, body: object, status: int, code: str, field: str | None) -> None:
    answer = api.request(method, path, "admin", json=body)
    error = answer.json()["error"]
    assert {*error} == {"code", "message", "field", "limit"}
    assert (answer.status_code, error["code"], error["field"]) == (status, code, field)


def test_an_error_names_the_limit(api: Api) -> None:
    assert api.get("/v1/telemetry?limit=1001").json()["error"]["limit"] == limits.MAX_PAGE_ROWS


def test_a_body_that_says_it_is_too_long_is_not_read(api: Api) -> None:
    answer = api.request("POST", "/v1/enrol", content=b"x" * (limits.MAX_JSON_BODY_BYTES + 1))
    assert (answer.status_code, answer.json()["error"]["limit"]) == (413, limits.MAX_JSON_BODY_BYTES)


def test_a_body_that_grows_too_long_is_cut_off(api: Api) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(40):
            yield b"x" * 65_536

    answer = api.request("POST", "/v1/enrol", content=chunks(), headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "too-large")


def test_the_openapi_document_explains_every_operation(api: Api) -> None:
    document = api.get("/openapi.json").json()
    operations = [operation for path in document["paths"].values() for operation in path.values()]
    assert len(operations) > 25
    assert all(operation.get("summary") and operation.get("tags") for operation in operations)


def test_health_tells_when_the_broker_is_away(api: Api) -> None:
    assert api.get("/v1/health", role="").json()["status"] == "ok"
    api.world.broker.connected = False
    answer = api.get("/v1/health", role="").json()
    assert (answer["status"], answer["broker"]["connected"]) == ("degraded", False)
