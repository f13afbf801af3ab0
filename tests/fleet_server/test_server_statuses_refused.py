"""Statuses: what a device says of itself is taken, unless it cannot be."""

import pytest

from fleet_contract.messages import Lane, LaneLedger, Status
from fleet_server.errors import BadRequest, NotFound
from fleet_server.services import devices, statuses
from tests.fakes.server_world import START, World

SHA = "a" * 64


@pytest.fixture
def enrolled(world: World) -> World:
    world.enrol("cam-1")
    return world


def test_a_will_says_only_that_the_device_is_gone(enrolled: World) -> None:
    said = LaneLedger(produced=4, acknowledged=4, queued=0)
    enrolled.say("cam-1", bundle=SHA, phase="idle", ledger={Lane.TELEMETRY: said})
    statuses.observe(enrolled.engine, "cam-1", Status(at=START, online=False, epoch="e1"), enrolled.clock())
    seen = devices.get(enrolled.engine, "cam-1", enrolled.clock())
    assert (seen.online, seen.bundle, seen.ledger["telemetry"].produced) == (False, SHA, 4)


@pytest.mark.parametrize(
    ("device", "status", "error"),
    [
        pytest.param("ghost", {}, NotFound, id="not enrolled"),
        pytest.param("cam-1", {"inputs": -1}, BadRequest, id="negative count"),
        pytest.param("cam-1", {"order_counter": 2**63}, BadRequest, id="a counter no database takes"),
        pytest.param("cam-1", {"refused": {"x": 2**60}}, BadRequest, id="a refusal count out of range"),
        pytest.param("cam-1", {"error": "a\0b"}, BadRequest, id="NUL in a text"),
        pytest.param("cam-1", {"phase": "x" * 2000}, BadRequest, id="a text that is too long"),
    ],
)
def test_statuses_that_are_refused(enrolled: World, device: str, status: dict, error: type[Exception]) -> None:
    with pytest.raises(error):
        enrolled.say(device, **status)
