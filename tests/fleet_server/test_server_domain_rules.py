"""The smaller rules: retraining, presence, roles, the ledger, and what a record must be."""

from datetime import UTC, datetime, timedelta

import msgspec
import numpy as np
import pytest

from fleet_contract import limits
from fleet_contract.manifest import RetrainPolicy, SamplingPolicy
from fleet_contract.messages import Event, Lane, Record, Result, Sample, SketchWindow, encode_record
from fleet_server.domain import counters, ledger, presence, records, retraining, roles
from fleet_server.domain.retraining import Campaign
from fleet_server.domain.roles import Role
from tests.fakes.server_bundles import rows, sketch_of

NOW = datetime(2026, 1, 1, tzinfo=UTC)
SHA = "a" * 64


@pytest.mark.parametrize(
    ("received", "announced", "lane_empty", "complete"),
    [
        pytest.param(3, None, False, False, id="still sampling"),
        pytest.param(10, None, False, True, id="as many as were asked for"),
        pytest.param(3, 3, False, True, id="all that was announced"),
        pytest.param(2, 3, False, False, id="one is on its way"),
        pytest.param(2, 3, True, True, id="one was dropped on the device"),
        pytest.param(0, 0, False, True, id="nothing was chosen"),
    ],
)
def test_when_a_campaign_is_complete(received: int, announced: int | None, lane_empty: bool, complete: bool) -> None:
    assert retraining.is_complete(Campaign(received, 0, announced, lane_empty), SamplingPolicy(max_items=10)) is complete


@pytest.mark.parametrize(
    ("received", "labelled", "before", "automatic", "starts"),
    [
        pytest.param(100, 100, 0, True, True, id="all labelled"),
        pytest.param(100, 99, 0, True, False, id="one label short"),
        pytest.param(20, 20, 0, True, True, id="fewer samples than labels wanted"),
        pytest.param(0, 0, 0, True, False, id="no samples at all"),
        pytest.param(100, 100, 100, True, False, id="nothing new since the last job"),
        pytest.param(100, 100, 0, False, False, id="only by hand"),
    ],
)
def test_when_a_job_starts_by_itself(received: int, labelled: int, before: int, automatic: bool, starts: bool) -> None:
    policy = RetrainPolicy(automatic=automatic, min_labels=100)
    assert retraining.may_start(Campaign(received, labelled, received, True), policy, before) is starts


@pytest.mark.parametrize(
    ("champion", "challenger"),
    [
        pytest.param("1.0", "1.0-r7", id="first"),
        pytest.param("1.0-r3", "1.0-r7", id="replaces an earlier suffix"),
        pytest.param("v" * 64, "v" * 61 + "-r7", id="stays within the charset"),
    ],
)
def test_the_challengers_version(champion: str, challenger: str) -> None:
    assert retraining.challenger_version(champion, 7) == challenger


@pytest.mark.parametrize(
    ("said", "age", "online", "absent"),
    [
        pytest.param(True, timedelta(seconds=1), True, False, id="just heard"),
        pytest.param(True, timedelta(seconds=121), False, False, id="silent: its will was lost"),
        pytest.param(False, timedelta(seconds=1), False, False, id="just gone"),
        pytest.param(False, timedelta(minutes=11), False, True, id="long gone"),
        pytest.param(False, None, False, True, id="never seen"),
    ],
)
def test_presence(said: bool, age: timedelta | None, online: bool, absent: bool) -> None:
    seen = None if age is None else NOW - age
    assert (presence.is_online(said, seen, NOW), presence.is_absent(said, seen, NOW)) == (online, absent)


@pytest.mark.parametrize(("age_s", "online"), [(121, True), (1_200, True), (1_201, False)])
def test_a_device_may_be_silent_for_two_heartbeats(age_s: int, online: bool) -> None:
    assert presence.is_online(True, NOW - timedelta(seconds=age_s), NOW, 600) is online


@pytest.mark.parametrize(
    ("role", "needed", "allowed"),
    [
        pytest.param(Role.VIEWER, Role.VIEWER, True, id="same"),
        pytest.param(Role.VIEWER, Role.OPERATOR, False, id="lower"),
        pytest.param(Role.ADMIN, Role.OPERATOR, True, id="higher"),
    ],
)
def test_roles(role: Role, needed: Role, allowed: bool) -> None:
    assert roles.allows(role, needed) is allowed


@pytest.mark.parametrize(
    ("produced", "stored", "queued", "dropped", "acknowledged", "expected"),
    [
        pytest.param(10, 7, 2, {"quota": 1}, 7, (0, 0, True), id="adds up"),
        pytest.param(10, 9, 2, {}, 8, (-1, 0, False), id="one is stored but not acknowledged yet"),
        pytest.param(10, 12, 0, {}, 10, (-2, 0, False), id="the report is older than what is stored"),
        pytest.param(10, 7, 2, {}, 7, (1, 1, False), id="one is missing"),
        pytest.param(10, 7, 0, {}, 10, (3, 3, False), id="acknowledged and not stored"),
    ],
)
def test_the_ledger(produced: int, stored: int, queued: int, dropped: dict, acknowledged: int, expected: tuple) -> None:
    found = ledger.balance(produced=produced, queued=queued, dropped=dropped, acknowledged=acknowledged, stored=stored)
    assert (found.difference, found.lost, found.balanced) == expected


def a_result(**changes: object) -> Result:
    made = Result(at=NOW, bundle=SHA, input_id="1", label="no", value=0.5, latency_us=10)
    return msgspec.structs.replace(made, **changes)


def a_sample(**changes: object) -> Sample:
    made = Sample(at=NOW, bundle=SHA, campaign="drift-1", input_id="1", media_type="image/png", data=b"x", label=None, value=0.5)
    return msgspec.structs.replace(made, **changes)


def an_event(**detail: object) -> Event:
    return Event(at=NOW, kind="agent.started", detail=detail)


@pytest.mark.parametrize(
    ("record", "lane"),
    [
        pytest.param(a_result(), Lane.TELEMETRY, id="result"),
        pytest.param(a_sample(), Lane.SAMPLES, id="sample"),
        pytest.param(an_event(code="x", n=1, share=0.5, ok=True), Lane.EVENTS, id="event"),
    ],
)
def test_good_records_are_read(record: Record, lane: Lane) -> None:
    assert records.read(encode_record(record), lane) == record


@pytest.mark.parametrize(
    ("wire", "lane", "reason"),
    [
        pytest.param(b"\xc1", Lane.EVENTS, "malformed-message", id="not msgpack"),
        pytest.param(b"\x80", Lane.EVENTS, "malformed-message", id="no tag"),
        pytest.param(b"x" * (limits.MAX_RECORD_BYTES + 1), Lane.EVENTS, "too-large", id="too large"),
        pytest.param(encode_record(a_result()), Lane.EVENTS, "wrong-lane", id="in another lane"),
        pytest.param(encode_record(a_result(value=float("nan"))), Lane.TELEMETRY, "not-finite", id="NaN"),
        pytest.param(encode_record(a_result(value=float("inf"))), Lane.TELEMETRY, "not-finite", id="infinity"),
        pytest.param(encode_record(a_result(latency_us=2**60)), Lane.TELEMETRY, "out-of-range", id="a number no database takes"),
        pytest.param(encode_record(a_result(latency_us=-1)), Lane.TELEMETRY, "out-of-range", id="negative"),
        pytest.param(encode_record(a_result(at=NOW.replace(tzinfo=None))), Lane.TELEMETRY, "no-time-zone", id="naive time"),
        pytest.param(encode_record(a_result(at=NOW.replace(year=1))), Lane.TELEMETRY, "out-of-range", id="the year 1"),
        pytest.param(encode_record(a_result(bundle="../etc")), Lane.TELEMETRY, "bad-bundle-digest", id="bundle is no digest"),
        pytest.param(encode_record(a_result(input_id="a\0b")), Lane.TELEMETRY, "bad-text", id="NUL in text"),
        pytest.param(encode_record(a_sample(media_type="text/html")), Lane.SAMPLES, "media-type", id="foreign media type"),
        pytest.param(encode_record(a_sample(data=b"")), Lane.SAMPLES, "too-large", id="empty sample"),
        pytest.param(encode_record(an_event(share=float("nan"))), Lane.EVENTS, "not-finite", id="NaN in an event"),
        pytest.param(encode_record(an_event(n=2**63)), Lane.EVENTS, "out-of-range", id="huge number in an event"),
        pytest.param(encode_record(an_event(**{str(n): "x" * 400 for n in range(9)})), Lane.EVENTS, "too-large", id="long event"),
        pytest.param(
            encode_record(SketchWindow(NOW, NOW, SHA, -1, 5, sketch_of(rows(np.random.default_rng(1), 5)))),
            Lane.SKETCHES,
            "out-of-range",
            id="negative position",
        ),
    ],
)
def test_bad_records_are_refused_by_reason(wire: bytes, lane: Lane, reason: str) -> None:
    with pytest.raises(records.Malformed) as refused:
        records.read(wire, lane)
    assert refused.value.reason == reason


@pytest.mark.parametrize(
    ("issued", "reported", "expected"),
    [
        pytest.param(7, 7, 8, id="the device has the newest"),
        pytest.param(7, 3, 8, id="it lags"),
        pytest.param(7, 12, 13, id="this database is an old copy"),
        pytest.param(7, 7 + counters.MAX_LEAD, 8 + counters.MAX_LEAD, id="as old as a copy may be"),
        pytest.param(7, 2**53, 8, id="it followed a thief"),
    ],
)
def test_the_counter_of_the_next_order(issued: int, reported: int, expected: int) -> None:
    assert counters.following(issued, reported) == expected
    assert counters.is_behind(issued, reported) == (expected > issued + 1)
