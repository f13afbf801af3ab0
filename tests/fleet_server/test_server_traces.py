"""Following one record: asked for over HTTP, complete when the lake holds it, told as spans."""

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import insert, update

from fleet_contract import limits
from fleet_server.domain import spans
from fleet_server.domain.spans import Journey
from fleet_server.otlp import Collector, TraceExport
from fleet_server.services import traces
from fleet_server.tables.database import writing
from fleet_server.tables.trace import Trace
from tests.fakes.otlp_receiver import receiving
from tests.fakes.server_api import Api

AT = datetime(2026, 5, 1, 12, tzinfo=UTC)
PARENT = "00f067aa0ba902b7"
STEPS = ["infer", "commit", "wait", "deliver", "store"]


def after(seconds: float) -> datetime:
    return AT + timedelta(seconds=seconds)


def journey(**changed: object) -> Journey:
    steps = {f"{step}_at": after(at) for at, step in enumerate(("recorded", "committed", "sent", "received", "compacted"))}
    record = {"device": "cam-1", "epoch": "e1", "lane": "telemetry", "sequence": 7, "latency_us": 500_000}
    return Journey(**{"id": "4bf92f3577b34da6a3ce929d0e0e4736", "parent": PARENT, "asked_at": None, **record, **steps, **changed})


@pytest.fixture
def followed(api: Api) -> Api:
    """A device that is there."""
    api.world.enrol("cam-1")
    api.world.say("cam-1")
    return api


def arrive(api: Api, trace: str) -> None:
    """As the compactor does."""
    one = journey()
    names = ("epoch", "lane", "sequence", "latency_us", "recorded_at", "committed_at", "sent_at", "received_at", "compacted_at")
    with writing(api.world.engine) as connection:
        connection.execute(update(Trace).where(Trace.id == trace).values({name: getattr(one, name) for name in names}))


def test_the_steps_of_a_record_follow_each_other_under_one_span() -> None:
    whole, *steps = spans.of(journey())
    assert [step.name for step in steps] == STEPS
    assert (whole.begin, whole.end, whole.parent) == (after(-0.5), after(4), PARENT)
    assert {step.parent for step in steps} == {whole.id}
    assert [step.begin for step in steps[1:]] == [step.end for step in steps[:-1]]
    assert len({span.id for span in (whole, *steps)}) == 6


def test_one_that_a_person_asked_for_hangs_under_the_asking() -> None:
    root, whole, *_ = spans.of(journey(asked_at=after(-9)))
    assert (root.id, root.parent, root.name, root.begin) == (PARENT, None, "follow", after(-9))
    assert whole.parent == root.id


@pytest.mark.parametrize(
    ("changed", "took_us"),
    [
        pytest.param({"sent_at": after(60), "committed_at": after(59)}, -57_000_000, id="the device's clock is ahead"),
        pytest.param({"recorded_at": datetime.min.replace(tzinfo=UTC)}, 1_000_000, id="at the calendar's begin"),
        pytest.param({"latency_us": limits.MAX_COUNT}, 1_000_000, id="a latency of centuries"),
    ],
)
def test_no_span_ends_before_it_begins(changed: dict, took_us: int) -> None:
    found = spans.of(journey(**changed))
    assert all(span.begin <= span.end for span in found)
    assert next(span for span in found if span.name == "deliver").attributes["edgefleet.two_clocks_us"] == took_us


def test_a_device_is_asked_and_its_record_is_found(followed: Api) -> None:
    answer = followed.post("/v1/devices/cam-1/trace")
    asked = answer.json()
    assert (answer.status_code, asked["complete"], asked["spans"]) == (202, False, [])
    (device, wish), *more = followed.world.link.followed
    assert (device, wish.id, more) == ("cam-1", asked["id"], [])
    arrive(followed, wish.id)
    shown = followed.get(f"/v1/traces/{wish.id}").json()
    assert shown["complete"]
    assert [span["name"] for span in shown["spans"]] == ["follow", "record", *STEPS]
    assert shown["spans"][0]["id"] == wish.parent
    assert followed.get("/v1/traces?device=cam-1").json()["items"] == [shown]
    assert followed.get("/v1/audit?after=0", "admin").json()["items"][-1]["action"] == "device.trace"


@pytest.mark.parametrize(
    ("device", "status", "code"),
    [
        pytest.param("none-1", 404, "not-found", id="no such device"),
        pytest.param("away-1", 409, "offline", id="one that is away"),
        pytest.param("apart-1", 409, "quarantined", id="one that is set apart"),
    ],
)
def test_who_cannot_be_followed(followed: Api, device: str, status: int, code: str) -> None:
    for other in ("away-1", "apart-1"):
        followed.world.enrol(other)
    followed.world.say("apart-1")
    followed.post("/v1/devices/apart-1/quarantine")
    answer = followed.post(f"/v1/devices/{device}/trace")
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
    assert followed.get("/v1/traces").json()["items"] == []


def test_nothing_is_kept_of_a_question_that_was_not_sent(followed: Api) -> None:
    followed.world.link.offline = True
    assert followed.post("/v1/devices/cam-1/trace").status_code == 503
    assert followed.get("/v1/traces").json()["items"] == []


def test_a_viewer_follows_nobody(followed: Api) -> None:
    assert followed.post("/v1/devices/cam-1/trace", role="viewer").status_code == 403


def test_the_oldest_traces_are_forgotten(followed: Api) -> None:
    rows = [
        {"id": f"{at:032x}", "parent": PARENT, "device": "cam-1", "asked_at": after(at)} for at in range(limits.MAX_KEPT_TRACES_COUNT + 1)
    ]
    with writing(followed.world.engine) as connection:
        connection.execute(insert(Trace), rows)
        traces.prune(connection)
    assert followed.get(f"/v1/traces/{0:032x}").status_code == 404
    assert followed.get(f"/v1/traces/{1:032x}").status_code == 200


def test_traces_that_devices_begin_crowd_out_none_that_was_asked_for(followed: Api) -> None:
    trace = followed.post("/v1/devices/cam-1/trace").json()["id"]
    begun = {**vars(journey()), "asked_at": None}
    rows = [{**begun, "id": f"{at:032x}", "compacted_at": after(at)} for at in range(limits.MAX_KEPT_TRACES_COUNT + 1)]
    with writing(followed.world.engine) as connection:
        connection.execute(insert(Trace), rows)
        traces.prune(connection)
    assert [followed.get(f"/v1/traces/{id}").status_code for id in (trace, f"{0:032x}", f"{1:032x}")] == [200, 404, 200]


def test_a_collector_gets_each_complete_trace_once(followed: Api) -> None:
    trace = followed.post("/v1/devices/cam-1/trace").json()["id"]
    with receiving() as receiver:
        export = TraceExport(followed.world.engine, Collector(receiver.endpoint, "testing"), followed.world.clock)
        assert export.turn() == 0
        arrive(followed, trace)
        receiver.status = 400
        assert export.turn() == 0, "a collector that does not take it"
        receiver.status = 200
        assert (export.turn(), export.turn()) == (1, 0)
    assert {*receiver.paths} == {"/v1/traces"}
    assert {span.trace for span in receiver.spans} == {trace}
    assert {(span.service, span.namespace) for span in receiver.spans} == {
        (name, "testing") for name in ("edge-agent", "mqtt-broker", "fleet-server")
    }
    told = {span.name: span for span in receiver.spans}
    assert told["deliver"].attributes["messaging.destination.name"] == "edgefleet/v1/cam-1/up/records"
    assert told["infer"].end_ns - told["infer"].begin_ns == 500_000_000
    assert told["store"].parent == told["record"].id
    assert told["record"].parent == told["follow"].id


def test_times_that_no_wire_can_carry_do_not_stop_the_export(followed: Api) -> None:
    row = {**vars(journey()), "recorded_at": datetime(1900, 1, 1, tzinfo=UTC), "sent_at": datetime(9999, 1, 1, tzinfo=UTC)}
    with writing(followed.world.engine) as connection:
        connection.execute(insert(Trace).values(**row))
    with receiving() as receiver:
        assert TraceExport(followed.world.engine, Collector(receiver.endpoint, "testing"), followed.world.clock).turn() == 1
    assert min(span.begin_ns for span in receiver.spans) == 0
