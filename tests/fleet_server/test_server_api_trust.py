"""Installing signed metadata over the API, and how it is told that it nears its expiry."""

import pytest

from fleet_contract import limits
from fleet_server.services.trust import Reminder
from tests.fakes.server_api import Api

FILES = {"2.root.json": "root", "2.targets.json": "targets"}


def test_what_is_installed_is_in_the_audit_log_once(api: Api) -> None:
    for _ in range(2):
        answer = api.post("/v1/tuf", {"files": FILES}, "admin")
        assert answer.status_code == 200, answer.text
    assert answer.json()["files"] == []
    entries = [item for item in api.get("/v1/audit?limit=1000").json()["items"] if item["action"] == "trust.install"]
    assert [entry["detail"]["files"] for entry in entries] == [sorted(FILES)]
    assert entries[0]["actor"] == api.tokens["admin"].split("_")[1]


def test_what_is_refused_is_not(api: Api) -> None:
    answer = api.post("/v1/tuf", {"files": {"2.root.json": ""}}, "admin")
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "unsigned")
    assert "trust.install" not in {item["action"] for item in api.get("/v1/audit?limit=1000").json()["items"]}


@pytest.mark.parametrize(
    ("body", "status"),
    [
        pytest.param({"files": {}}, 422, id="nothing"),
        pytest.param({"files": {"2.root.json": 7}}, 422, id="no text"),
        pytest.param({"files": {f"{number}.root.json": "" for number in range(limits.MAX_TRUST_UPLOAD_ENTRIES + 1)}}, 422, id="too many"),
        pytest.param({"files": {"2.root.json": "x" * limits.MAX_TRUST_UPLOAD_BYTES}}, 413, id="too much"),
    ],
)
def test_a_bad_body_is_refused(api: Api, body: dict, status: int) -> None:
    assert api.post("/v1/tuf", body, "admin").status_code == status


@pytest.mark.parametrize(
    ("days", "renew", "status"),
    [
        pytest.param(100, [], "ok", id="long before"),
        pytest.param(340, ["root", "targets", "releases"], "ok", id="soon"),
        pytest.param(400, ["root", "targets", "releases"], "degraded", id="expired"),
    ],
)
def test_health_says_what_people_must_renew(api: Api, days: int, renew: list[str], status: str) -> None:
    api.world.clock.forward(days=days)
    told = api.get("/v1/health").json()
    assert ([one["role"] for one in told["renew"]], told["status"]) == (renew, status)


def test_metrics_have_every_expiry(api: Api) -> None:
    assert 'edgefleet_trust_expiry_timestamp_seconds{role="root"}' in api.get("/metrics").text


def test_the_log_has_it_once_a_day(api: Api, caplog) -> None:
    reminder, clock = Reminder(api.world.repository.expiries), api.world.clock
    clock.forward(days=340)
    for hours in (0, 1, 23, 1):
        reminder.remind(clock.forward(hours=hours))
    assert len(caplog.records) == 3 * 2
