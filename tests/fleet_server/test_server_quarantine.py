"""A key in two hands: the rule, what a quarantined device is denied, and its way back."""

from datetime import timedelta

import pytest

from fleet_server.domain.holders import MOST_STARTS, WINDOW, Holders, Reason, see
from fleet_server.errors import Conflict, NotFound
from fleet_server.services import audit, devices, quarantine
from tests.fakes.server_api import Api
from tests.fakes.server_world import START, World

MINUTES = timedelta(minutes=1)


@pytest.mark.parametrize(
    ("seen", "reason"),
    [
        pytest.param("A A A", None, id="one start"),
        pytest.param("A B C D", None, id="restarts"),
        pytest.param("A B A", Reason.CLONED_KEY, id="one that had given way is back"),
        pytest.param("A B C A", Reason.CLONED_KEY, id="back after two others"),
        pytest.param("- - -", None, id="an agent that names no instance"),
        pytest.param("- A A", None, id="an upgrade to one that does"),
        pytest.param("A - A", Reason.CLONED_KEY, id="a second holder that names none"),
    ],
)
def test_two_holders_are_seen_by_one_coming_back(seen: str, reason: Reason | None) -> None:
    found, known = None, Holders()
    for minute, instance in enumerate(seen.split()):
        known, found = see(known, "" if instance == "-" else instance, START + minute * MINUTES)
    assert found == reason


@pytest.mark.parametrize(("away", "reason"), [(WINDOW, Reason.CLONED_KEY), (WINDOW + MINUTES, None)], ids=["within the window", "after it"])
def test_the_past_ends(away: timedelta, reason: Reason | None) -> None:
    known, _ = see(Holders("A"), "B", START)
    assert see(known, "A", START + away)[1] == reason


@pytest.mark.parametrize(("before", "reason"), [(MOST_STARTS - 1, None), (MOST_STARTS, Reason.TOO_MANY_STARTS)], ids=["the most", "more"])
def test_nobody_can_flood_the_memory_of_who_was_there(before: int, reason: Reason | None) -> None:
    known = Holders("A", {f"B{number}": START for number in range(before)})
    assert see(known, "C", START)[1] == reason


@pytest.fixture
def cloned(sqlite_world: World) -> World:
    """cam-1 is in two hands, cam-2 in one."""
    for device in ("cam-1", "cam-2"):
        sqlite_world.enrol(device)
    for instance in ("a", "b", "a"):
        sqlite_world.say("cam-1", instance=instance)
        sqlite_world.say("cam-2", instance="other")
    return sqlite_world


def test_the_device_is_set_apart_and_everybody_can_see_it(cloned: World) -> None:
    api = Api(cloned)
    seen = {item["id"]: item for item in api.get("/v1/devices").json()["items"]}
    assert (seen["cam-1"]["quarantine_reason"], seen["cam-1"]["online"]) == ("cloned-key", False)
    assert (seen["cam-2"]["quarantined_at"], seen["cam-2"]["online"]) == (None, True)
    assert [(e.actor, e.subject, e.detail) for e in audit.page(cloned.engine, 0, 100) if e.action == "device.quarantine"] == [
        ("server", "cam-1", {"reason": "cloned-key"})
    ]
    assert "edgefleet_devices_quarantined 1.0" in api.get("/metrics").text.splitlines()


def test_it_gets_no_order_until_it_is_released(cloned: World) -> None:
    api = Api(cloned)
    api.post("/v1/rollouts", {"bundle": api.publish(), "approved": True})
    cloned.settle()
    assert {*cloned.link.retained} == {"cam-2"}
    cloned.run_order("cam-2")
    quarantine.release(cloned.engine, "cam-1", by="test", now=cloned.clock())
    for _ in range(3):
        cloned.settle()
    assert {*cloned.link.retained} == {"cam-1", "cam-2"}


def test_a_quarantined_device_is_not_listened_to(cloned: World) -> None:
    with pytest.raises(Conflict) as caught:
        cloned.say("cam-1", instance="c")
    assert caught.value.code == "quarantined"
    assert devices.get(cloned.engine, "cam-1", cloned.clock()).online is False


def test_release_forgets_who_held_the_key(cloned: World) -> None:
    quarantine.release(cloned.engine, "cam-1", by="test", now=cloned.clock())
    cloned.say("cam-1", instance="b")
    cloned.say("cam-1", instance="c")
    assert devices.get(cloned.engine, "cam-1", cloned.clock()).quarantined_at is None
    cloned.say("cam-1", instance="b")
    assert devices.get(cloned.engine, "cam-1", cloned.clock()).quarantine_reason == "cloned-key"


def test_a_person_can_set_a_device_apart(cloned: World) -> None:
    api = Api(cloned)
    assert api.post("/v1/devices/cam-2/quarantine").json()["quarantine_reason"] == "by-hand"
    assert api.post("/v1/devices/cam-2/quarantine").status_code == 409
    assert api.post("/v1/devices/cam-2/release", role="admin").json()["quarantined_at"] is None
    assert api.post("/v1/devices/cam-2/release", role="admin").status_code == 409
    with pytest.raises(NotFound):
        quarantine.release(cloned.engine, "nobody", by="test", now=START)


def test_a_new_certificate_revokes_the_one_before(cloned: World) -> None:
    assert quarantine.excluded(cloned.engine, START) == quarantine.Excluded(frozenset({"cam-1"}), frozenset())
    cloned.enrol("cam-1")
    assert quarantine.excluded(cloned.engine, START) == quarantine.Excluded(frozenset({"cam-1"}), frozenset({1}))
