"""Every route of the API, as its OpenAPI document lists them: who may use it, and whether the document tells a client enough."""

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.fakes.server_api import Api

ANYBODY, VIEWER, OPERATOR, ADMIN = "", "viewer", "operator", "admin"
NEEDS = {
    "GET /v1/health": ANYBODY,
    "GET /v1/ca.pem": ANYBODY,
    "GET /v1/tuf/{name}": ANYBODY,
    "POST /v1/enrol": ANYBODY,
    "GET /v1/files/{path}": ANYBODY,
    "GET /metrics": VIEWER,
    "GET /v1/devices": VIEWER,
    "GET /v1/devices/{device}": VIEWER,
    "GET /v1/ledger": VIEWER,
    "GET /v1/alerts": VIEWER,
    "POST /v1/alerts/{alert}/accept": OPERATOR,
    "GET /v1/bundles": VIEWER,
    "GET /v1/bundles/{sha256}": VIEWER,
    "GET /v1/bundles/{sha256}/content": VIEWER,
    "GET /v1/bundles/{sha256}/measurements": VIEWER,
    "GET /v1/profiles/{name}/measurements": VIEWER,
    "GET /v1/rollouts": VIEWER,
    "GET /v1/rollouts/{rollout}": VIEWER,
    "GET /v1/telemetry": VIEWER,
    "GET /v1/telemetry/summary": VIEWER,
    "GET /v1/events": VIEWER,
    "GET /v1/traces": VIEWER,
    "GET /v1/traces/{trace}": VIEWER,
    "GET /v1/drift": VIEWER,
    "GET /v1/drift/windows": VIEWER,
    "GET /v1/samples": VIEWER,
    "GET /v1/samples/{sample}/content": VIEWER,
    "GET /v1/jobs": VIEWER,
    "GET /v1/jobs/{job}": VIEWER,
    "GET /v1/audit": VIEWER,
    "GET /v1/audit/verify": VIEWER,
    "POST /v1/enrolment-tokens": OPERATOR,
    "POST /v1/devices/{device}/quarantine": OPERATOR,
    "POST /v1/devices/{device}/trace": OPERATOR,
    "POST /v1/bundles": OPERATOR,
    "POST /v1/rollouts": OPERATOR,
    "POST /v1/rollouts/{rollout}/approve": OPERATOR,
    "POST /v1/rollouts/{rollout}/stop": OPERATOR,
    "POST /v1/labels": OPERATOR,
    "POST /v1/jobs": OPERATOR,
    "POST /v1/devices/{device}/release": ADMIN,
    "DELETE /v1/devices/{device}": ADMIN,
    "GET /v1/deletions": ADMIN,
    "GET /v1/tokens": ADMIN,
    "POST /v1/tokens": ADMIN,
    "POST /v1/tuf": ADMIN,
    "POST /v1/tokens/{token}/revoke": ADMIN,
}
"""A route that is not in this table, or a line without a route, fails a test below."""
ROLES = (VIEWER, OPERATOR, ADMIN)
BODIES = {
    "POST /v1/enrolment-tokens": {"device_id": "d", "profile": "generic-x86-64", "task": "toy"},
    "POST /v1/rollouts": {"bundle": "a" * 64},
    "POST /v1/labels": {"labels": [{"sample": 1, "label": "x"}]},
    "POST /v1/jobs": {"task": "toy"},
    "POST /v1/tokens": {"role": "viewer"},
    "POST /v1/tuf": {"files": {"2.root.json": "{}"}},
}


def operations(api: Api) -> dict[str, dict]:
    paths = api.get("/openapi.json").json()["paths"]
    return {f"{method.upper()} {path}": operation for path, methods in paths.items() for method, operation in methods.items()}


def ask(api: Api, route: str, role: str) -> int:
    """The status; rows and names in the path are some that do not exist."""
    method, path = route.split()
    for name in ("device", "sha256", "token", "name", "trace"):
        path = path.replace(f"{{{name}}}", "none")
    for name in ("rollout", "sample", "job"):
        path = path.replace(f"{{{name}}}", "99")
    return api.request(method, path, role, json=BODIES.get(route)).status_code


def test_the_table_names_every_route(api: Api) -> None:
    assert {*operations(api)} == {*NEEDS}


@pytest.mark.parametrize(("route", "needed"), NEEDS.items(), ids=NEEDS)
def test_who_may_use_a_route(api: Api, route: str, needed: str) -> None:
    if needed == ANYBODY:
        assert ask(api, route, ANYBODY) not in (401, 403)
        return
    assert ask(api, route, ANYBODY) == 401
    for role in ROLES:
        refused = ask(api, route, role) == 403
        assert refused is (ROLES.index(role) < ROLES.index(needed)), role


def test_the_document_tells_a_client_what_it_needs(api: Api) -> None:
    """One test: making the document takes long."""
    for route, operation in operations(api).items():
        assert operation["summary"], route
        assert operation["tags"], route
        assert bool(operation.get("security")) is (NEEDS[route] != ANYBODY), route
        done = next(answer for status, answer in operation["responses"].items() if status.startswith("2"))
        json = done.get("content", {}).get("application/json", {}).get("schema")
        assert json is None or json.get("$ref"), f"{route}: an answer without a model"
        assert operation["responses"]["4XX"]["content"]["application/json"]["schema"]["$ref"].endswith("/Failure"), route
        if route in BODIES:
            assert operation["requestBody"]["content"]["application/json"]["schema"]["$ref"], route


def test_prometheus_can_read_the_metrics(api: Api) -> None:
    families = {family.name: family for family in text_string_to_metric_families(api.get("/metrics").text)}
    assert families["edgefleet_devices"].type == "gauge"
    assert families["edgefleet_ingest"].type == "counter"
    assert all(family.documentation for family in families.values())
    assert all(sample.value >= 0 for family in families.values() for sample in family.samples)


def test_what_was_refused_is_counted_by_code(api: Api) -> None:
    api.get("/v1/devices", role="")
    api.get("/v1/devices/ghost")
    api.get("/v1/devices/ghost")
    api.upload(b"no bundle")
    api.post("/v1/enrolment-tokens", {"device_id": "Cam_1", "profile": "generic-x86-64", "task": "toy"})
    counted = {family.name: family.samples for family in text_string_to_metric_families(api.get("/metrics").text)}["edgefleet_api_refusals"]
    assert {sample.labels["code"]: sample.value for sample in counted} == {
        "unauthorised": 1,
        "not-found": 2,
        "bad-bundle": 1,
        "bad-request": 1,
    }


class TestTokens:
    def test_an_admin_makes_lists_and_revokes_them(self, api: Api) -> None:
        made = api.post("/v1/tokens", {"role": "viewer"}, role="admin")
        assert made.status_code == 201
        given = {"Authorization": f"Bearer {made.json()['token']}"}
        assert api.get("/v1/devices", role="", headers=given).status_code == 200
        token = made.json()["token"].split("_")[1]
        first = api.post(f"/v1/tokens/{token}/revoke", role="admin").json()
        assert first["revoked_at"] is not None
        assert api.get("/v1/devices", role="", headers=given).status_code == 401
        assert api.post(f"/v1/tokens/{token}/revoke", role="admin").json() == first
        assert [item["revoked_at"] for item in api.get("/v1/tokens", role="admin").json()["items"] if item["id"] == token] == [
            first["revoked_at"]
        ]
        changes = [(entry["action"], entry["actor"]) for entry in api.get("/v1/audit").json()["items"] if entry["subject"] == token]
        admin = api.tokens["admin"].split("_")[1]
        assert changes == [("token.create", admin), ("token.revoke", admin)]

    def test_a_list_shows_no_secret(self, api: Api) -> None:
        text = api.get("/v1/tokens", role="admin").text
        assert not any(token.split("_", 2)[2] in text for token in api.tokens.values())
        assert "secret" not in text

    def test_an_unknown_role_or_token_is_an_error(self, api: Api) -> None:
        assert api.post("/v1/tokens", {"role": "king"}, role="admin").json()["error"]["field"] == "role"
        assert api.post("/v1/tokens/none/revoke", role="admin").status_code == 404
