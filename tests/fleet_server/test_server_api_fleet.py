"""Bundles, rollouts, telemetry, samples and the rest, over HTTP."""

import hashlib

import pytest

from fleet_contract import limits
from fleet_contract.messages import Event, Lane, LaneLedger, Result, Sample
from tests.fakes.server_api import Api
from tests.fakes.server_bundles import make_bundle

PNG = b"\x89PNG not really"


@pytest.fixture
def bundle(api: Api) -> str:
    """A published bundle that one device is ordered to run."""
    api.world.enrol("cam-1")
    sha256 = api.publish()
    api.post("/v1/rollouts", {"bundle": sha256})
    api.world.settle()
    return sha256


def send_samples(api: Api, bundle: str, count: int = 3) -> list[int]:
    now = api.world.clock()
    sent = [Sample(now, bundle, "drift-1", f"f{at}", "image/png", PNG + bytes([at]), "no", 0.6) for at in range(count)]
    api.world.send("cam-1", *sent)
    return [item["id"] for item in api.get("/v1/samples").json()["items"]]


def send_results(api: Api, bundle: str, count: int) -> None:
    now = api.world.clock()
    api.world.send("cam-1", *(Result(now, bundle, str(at), "yes" if at % 2 else "no", 0.5, 100) for at in range(count)))


def test_a_bundle_goes_up_and_comes_down(api: Api) -> None:
    archive = make_bundle()
    answer = api.upload(archive)
    assert (answer.status_code, answer.json()) == (201, {"sha256": hashlib.sha256(archive).hexdigest(), "task": "toy", "version": "1"})
    sha256 = answer.json()["sha256"]
    assert api.get("/v1/bundles").json()["items"][0]["sha256"] == sha256
    assert api.get(f"/v1/bundles/{sha256}").json()["manifest"]["output"]["classes"] == ["no", "yes"]
    assert api.get(f"/v1/bundles/{sha256}/content").content == archive
    assert list((api.world.fleet.home / "uploads").iterdir()) == []


@pytest.mark.parametrize(
    ("spoil", "status", "code"),
    [
        pytest.param("flip", 400, "bad-bundle", id="a flipped byte"),
        pytest.param("empty", 400, "bad-bundle", id="nothing"),
        pytest.param("foreign", 400, "bad-request", id="metadata about another bundle"),
        pytest.param("again", 409, "conflict", id="the same again"),
        pytest.param("version", 409, "conflict", id="another bundle with a version that is taken"),
        pytest.param("releases", 413, "too-large", id="metadata that is too long"),
    ],
)
def test_what_is_not_published(api: Api, spoil: str, status: int, code: str) -> None:
    archive = make_bundle()
    releases = api.world.repository.following(archive)
    if spoil == "flip":
        archive = archive[:-1] + bytes([archive[-1] ^ 1])
    elif spoil == "empty":
        archive = b""
    elif spoil == "foreign":
        archive = make_bundle("2")
    elif spoil == "again":
        api.upload(archive)
    elif spoil == "version":
        api.upload(make_bundle(centres=(0.5,)))
    elif spoil == "releases":
        releases = b" " * (limits.MAX_METADATA_BYTES + 1)
    before = len(api.get("/v1/bundles").json()["items"])
    answer = api.upload(archive, releases)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
    assert len(api.get("/v1/bundles").json()["items"]) == before
    assert list((api.world.fleet.home / "uploads").iterdir()) == []


@pytest.mark.parametrize(
    ("files", "field"),
    [
        pytest.param({"bundle": b"x"}, "releases", id="a part is missing"),
        pytest.param({"bundle": b"x", "other": b"y"}, "body", id="an unknown part"),
        pytest.param([("bundle", b"x"), ("bundle", b"y")], "body", id="a part twice"),
    ],
)
def test_uploads_that_are_not_uploads(api: Api, files, field: str) -> None:
    answer = api.request("POST", "/v1/bundles", "operator", files=files)
    assert (answer.status_code, answer.json()["error"]["field"]) == (400, field)


def test_deltas_go_to_the_repository_in_the_order_of_their_numbers(api: Api) -> None:
    archive = make_bundle("1")
    parts = {"delta-1": b"second", "bundle": archive, "delta-0": b"first", "releases": api.world.repository.following(archive)}
    assert api.request("POST", "/v1/bundles", "operator", files=parts).status_code == 201
    assert api.world.repository.deltas == [b"first", b"second"]


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        pytest.param("application/json", b"{}", id="not multipart"),
        pytest.param("multipart/form-data", b"x", id="no boundary"),
        pytest.param("multipart/form-data; boundary=b", b"nonsense", id="not what its boundary says"),
    ],
)
def test_bodies_that_are_no_multipart(api: Api, content_type: str, body: bytes) -> None:
    assert api.request("POST", "/v1/bundles", "operator", content=body, headers={"Content-Type": content_type}).status_code == 400


def test_a_rollout_is_watched_and_stopped(api: Api, bundle: str) -> None:
    api.world.run_order("cam-1")
    api.world.settle()
    second = api.publish("2")
    made = api.post("/v1/rollouts", {"bundle": second, "devices": ["cam-1"]}).json()
    assert (made["state"], made["canaries"], made["devices"]) == ("canary", ["cam-1"], {"cam-1": "pending"})
    busy = api.post("/v1/rollouts", {"bundle": second})
    assert (busy.status_code, busy.json()["error"]["limit"]) == (409, made["id"])
    api.world.settle()
    assert api.get("/v1/devices/cam-1").json()["desired_bundle"] == second
    assert api.post(f"/v1/rollouts/{made['id']}/stop").json()["state"] == "stopped"
    assert api.post(f"/v1/rollouts/{made['id']}/stop").status_code == 409
    assert api.get("/v1/devices/cam-1").json()["desired_bundle"] == bundle


def test_a_proposed_rollout_is_approved_once(api: Api, bundle: str) -> None:
    api.world.run_order("cam-1")
    api.world.settle()
    made = api.post("/v1/rollouts", {"bundle": bundle, "approved": False}).json()
    assert made["state"] == "proposed"
    assert api.post(f"/v1/rollouts/{made['id']}/approve").json()["state"] == "canary"
    assert api.post(f"/v1/rollouts/{made['id']}/approve").status_code == 409


def test_a_shadow_is_ordered_and_its_figures_are_shown(api: Api, bundle: str) -> None:
    api.world.run_order("cam-1")
    api.world.settle()
    second = api.publish("2")
    made = api.post("/v1/rollouts", {"bundle": second, "shadow": True}).json()
    assert (made["state"], made["shadow"], made["canaries"], made["compared"]) == ("shadow", True, [], {})
    api.world.settle()
    assert api.world.order("cam-1").shadow is True
    assert api.get("/v1/devices/cam-1").json()["desired_bundle"] == bundle
    detail = {"candidate": second, "inputs": 4, "agreed": 3, "latency_us": 10, "candidate_latency_us": 20, "missed.unfit": 2}
    api.world.send("cam-1", Event(at=api.world.clock(), kind="shadow.compared", detail=detail))
    shown = {"inputs": 4, "agreed": 3, "agreement": 0.75, "missed": 2, "latency_us": 10.0, "candidate_latency_us": 20.0}
    assert api.get(f"/v1/rollouts/{made['id']}").json()["compared"] == {"cam-1": shown}
    assert api.post(f"/v1/rollouts/{made['id']}/stop").json()["state"] == "stopped"


@pytest.mark.parametrize(
    ("body", "status", "field"),
    [
        pytest.param({"shadow": True}, 400, "devices", id="a shadow of what runs"),
        pytest.param({"bundle": "0" * 64}, 404, "bundle", id="unknown bundle"),
        pytest.param({"devices": ["ghost"]}, 400, "devices", id="unknown device"),
        pytest.param({"devices": []}, 422, "devices", id="no devices"),
    ],
)
def test_rollouts_that_cannot_be(api: Api, bundle: str, body: dict, status: int, field: str) -> None:
    answer = api.post("/v1/rollouts", {"bundle": bundle} | body)
    assert (answer.status_code, answer.json()["error"]["field"]) == (status, field)


def test_telemetry_is_read_page_by_page(api: Api, bundle: str) -> None:
    send_results(api, bundle, 5)
    seen, after = [], ""
    while after is not None:
        page = api.get(f"/v1/telemetry?limit=2&after={after}&device=cam-1&bundle={bundle}").json()
        seen += [item["input_id"] for item in page["items"]]
        after = page["next"]
    assert seen == ["0", "1", "2", "3", "4"]
    assert api.get("/v1/telemetry?device=ghost").json()["items"] == []
    assert api.get("/v1/telemetry?abstained=true").json()["items"] == []
    assert {(item["abstained"], item["detail"]) for item in api.get("/v1/telemetry").json()["items"]} == {(False, None)}


def test_the_summary_counts(api: Api, bundle: str) -> None:
    send_results(api, bundle, 5)
    summary = api.get("/v1/telemetry/summary").json()
    assert [(count["label"], count["count"]) for count in summary["counts"]] == [("no", 3), ("yes", 2)]
    assert [(lane["lane"], lane["records"]) for lane in summary["stored"]] == [("telemetry", 5)]
    assert summary["stored"][0]["bytes"] > 0


def test_events_by_device_and_kind(api: Api, bundle: str) -> None:
    now = api.world.clock()
    api.world.send("cam-1", Event(now, "agent.started", {"n": 1}), Event(now, "worker.crashed", {}))
    assert [item["kind"] for item in api.get("/v1/events?device=cam-1").json()["items"]] == ["agent.started", "worker.crashed"]
    assert api.get("/v1/events?kind=agent.started").json()["items"][0]["detail"] == {"n": 1}


def test_a_device_shows_its_status_and_ledger(api: Api, bundle: str) -> None:
    send_results(api, bundle, 5)
    said = LaneLedger(produced=7, acknowledged=5, queued=1, dropped={"quota": 1})
    api.world.say("cam-1", bundle=bundle, bundle_version="1", phase="idle", inputs=7, refused={"nan": 2}, ledger={Lane.TELEMETRY: said})
    device = api.get("/v1/devices/cam-1").json()
    assert (device["online"], device["bundle_version"], device["inputs"], device["refused"]) == (True, "1", 7, {"nan": 2})
    assert device["ledger"]["telemetry"] | {"bytes": 0, "reported_at": None} == {
        "produced": 7,
        "acknowledged": 5,
        "queued": 1,
        "dropped": {"quota": 1},
        "stored": 5,
        "excused": 0,
        "malformed": 0,
        "bytes": 0,
        "difference": 0,
        "lost": 0,
        "balanced": True,
        "reported_at": None,
    }
    assert [line["balanced"] for line in api.get("/v1/ledger").json()["items"]] == [True]


def test_samples_are_shown_as_what_they_are_and_nothing_else(api: Api, bundle: str) -> None:
    first = send_samples(api, bundle)[0]
    answer = api.get(f"/v1/samples/{first}/content")
    assert answer.content == PNG + b"\0"
    assert (answer.headers["content-type"], answer.headers["x-content-type-options"]) == ("image/png", "nosniff")


def test_labels_are_stored_once_and_corrected(api: Api, bundle: str) -> None:
    first, second, _ = send_samples(api, bundle)
    labels = {"labels": [{"sample": first, "label": "yes"}, {"sample": second, "label": "no"}]}
    assert api.post("/v1/labels", labels).json() == {"stored": 2}
    entries = api.get("/v1/audit/verify").json()["entries"]
    assert api.post("/v1/labels", labels).json() == {"stored": 2}
    assert api.get("/v1/audit/verify").json()["entries"] == entries
    api.post("/v1/labels", {"labels": [{"sample": first, "label": "no"}]})
    assert [item["truth"] for item in api.get("/v1/samples").json()["items"]] == ["no", "no", None]
    assert [item["id"] for item in api.get("/v1/samples?labelled=true&finding=1").json()["items"]] == [first, second]
    assert api.get("/v1/samples?finding=2").json()["items"] == []


@pytest.mark.parametrize(
    ("label", "status", "field", "says"),
    [
        pytest.param({"sample": 99, "label": "yes"}, 404, "labels[1].sample", "99", id="unknown sample"),
        pytest.param({"sample": 2, "label": "maybe"}, 400, "labels[1].label", "'maybe' is no class", id="unknown class"),
    ],
)
def test_a_wrong_label_refuses_all_and_is_named(api: Api, bundle: str, label: dict, status: int, field: str, says: str) -> None:
    first = send_samples(api, bundle)[0]
    answer = api.post("/v1/labels", {"labels": [{"sample": first, "label": "yes"}, label]})
    assert (answer.status_code, answer.json()["error"]["field"]) == (status, field)
    assert says in answer.json()["error"]["message"]
    assert api.get("/v1/samples?labelled=true").json()["items"] == []


def test_a_person_starts_a_job(api: Api, bundle: str) -> None:
    first = send_samples(api, bundle)[0]
    api.post("/v1/labels", {"labels": [{"sample": first, "label": "yes"}]})
    made = api.post("/v1/jobs", {"task": "toy"})
    assert (made.status_code, made.json()["state"], made.json()["labels"]) == (201, "queued", 1)
    assert api.post("/v1/jobs", {"task": "toy"}).status_code == 409
    api.world.tick()
    api.world.tick()
    job = api.get(f"/v1/jobs/{made.json()['id']}").json()
    assert (job["state"], job["stage"], job["share"]) == ("running", "train", 0.5)


def test_metrics_count_what_there_is(api: Api, bundle: str) -> None:
    send_results(api, bundle, 3)
    api.world.say("cam-1", bundle=bundle)
    text = api.get("/metrics").text
    for line in (
        "edgefleet_devices 1.0",
        "edgefleet_devices_online 1.0",
        'edgefleet_records_stored_total{lane="telemetry"} 3.0',
        "edgefleet_ledger_lost_records 0.0",
        'edgefleet_ingest_total{outcome="malformed"} 2.0',
        'edgefleet_rollouts{state="wave"} 1.0',
        "edgefleet_broker_connected 1.0",
    ):
        assert line in text.splitlines()


def test_every_change_is_in_the_audit_log_with_who_made_it(api: Api, bundle: str) -> None:
    items = api.get("/v1/audit?limit=1000").json()["items"]
    operator = api.tokens["operator"].split("_")[1]
    assert {"token.create", "enrolment-token.create", "device.enrol", "bundle.publish", "rollout.create", "order.issue"} <= {
        item["action"] for item in items
    }
    assert {item["actor"] for item in items if item["action"] == "bundle.publish"} == {operator}
    assert api.get("/v1/audit/verify").json() == {"intact": True, "entries": len(items), "broken_at": None}
