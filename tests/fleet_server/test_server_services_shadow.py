"""A rollout that is a shadow, from its orders to their end."""

import msgspec
import pytest

from fleet_contract.messages import Event
from fleet_server.errors import BadRequest, Conflict
from fleet_server.services import devices, jobs, rollout_steps, rollouts
from fleet_server.services.rollouts import Plan
from tests.fakes.server_bundles import POLICY, make_bundle
from tests.fakes.server_world import World

DEVICES = ("cam-1", "cam-2")
GATE = POLICY.rollout.gate_inputs


class Fleet:
    """Two devices on a champion, and a challenger."""

    def __init__(self, world: World) -> None:
        self.world = world
        for device in DEVICES:
            world.enrol(device)
        self.champion = world.publish(make_bundle())
        rollouts.create(world.engine, Plan(self.champion), by="test", now=world.clock())
        world.settle()
        for device in DEVICES:
            world.run_order(device)
        world.settle()
        self.challenger = world.publish(make_bundle("2", centres=(0.4, 0.9)))

    def shadow(self, **plan: object) -> int:
        made = rollouts.create(self.world.engine, Plan(self.challenger, shadow=True, **plan), by="test", now=self.world.clock()).id
        self.world.settle()
        return made

    def view(self, made: int) -> rollouts.RolloutView:
        return rollouts.get(self.world.engine, made)

    def tell(self, device: str, kind: str, **detail: str | int | float) -> None:
        self.world.send(device, Event(at=self.world.clock(), kind=kind, detail=detail))
        self.world.settle()

    def compare(self, device: str, inputs: int, agreed: int, **more: int) -> None:
        both = {"latency_us": 100, "candidate_latency_us": 300}
        told = {"bundle": self.champion, "candidate": self.challenger, "inputs": inputs, "agreed": agreed}
        self.tell(device, "shadow.compared", **(told | both | more))

    def orders(self) -> list[tuple[str, object]]:
        return [(order.sha256, order.shadow) for order in map(self.world.order, DEVICES)]


@pytest.fixture
def fleet(world: World) -> Fleet:
    return Fleet(world)


def test_the_bundle_is_ordered_beside_what_runs_until_each_has_compared_enough(fleet: Fleet) -> None:
    made = fleet.shadow()
    assert fleet.orders() == [(fleet.challenger, True)] * 2
    assert {row.desired_bundle for row in devices.page(fleet.world.engine, fleet.world.clock(), after="", limit=9)} == {fleet.champion}
    fleet.compare("cam-1", GATE, GATE)
    fleet.compare("cam-2", GATE - 1, 0)
    assert (fleet.view(made).state, fleet.view(made).devices) == ("shadow", {"cam-1": "compared", "cam-2": "ordered"})
    assert fleet.orders() == [(fleet.challenger, True)] * 2
    fleet.compare("cam-2", 1, 0, candidate_latency_us=300 + 10 * GATE, **{"missed.not-in-time": 7})
    assert (fleet.view(made).state, fleet.view(made).ended_at is None) == ("done", False)
    assert fleet.orders() == [(fleet.champion, msgspec.UNSET)] * 2
    assert fleet.view(made).compared == {
        "cam-1": {"inputs": GATE, "agreed": GATE, "agreement": 1.0, "missed": 0, "latency_us": 100.0, "candidate_latency_us": 300.0},
        "cam-2": {"inputs": GATE, "agreed": 0, "agreement": 0.0, "missed": 7, "latency_us": 100.0, "candidate_latency_us": 310.0},
    }


def test_afterwards_the_fleet_runs_what_it_ran(fleet: Fleet) -> None:
    fleet.shadow()
    for device in DEVICES:
        fleet.compare(device, GATE, GATE)
    fleet.world.enrol("cam-3")
    fleet.world.settle()
    assert fleet.world.order("cam-3").sha256 == fleet.champion
    with fleet.world.engine.connect() as connection:
        assert jobs._champion(connection, "toy") == fleet.champion


@pytest.mark.parametrize(
    ("kind", "detail", "reason"),
    [
        pytest.param("update.rejected", {"code": "wrong-answer", "message": "differs"}, "wrong-answer: differs", id="it fails its proof"),
        pytest.param("shadow.refused", {"code": "no-room", "message": "48 MiB"}, "no-room: 48 MiB", id="there is no room"),
        pytest.param("order.rejected", {"code": "bad-order", "message": "unknown field"}, "order.rejected", id="the agent is too old"),
    ],
)
def test_a_device_that_cannot_ends_it_for_all(fleet: Fleet, kind: str, detail: dict, reason: str) -> None:
    made = fleet.shadow()
    fleet.tell("cam-2", kind, sha256=fleet.challenger, **detail)
    stopped = fleet.view(made)
    assert (stopped.state, stopped.devices["cam-2"]) == ("stopped", "failed")
    assert reason in stopped.reason
    assert fleet.orders() == [(fleet.champion, msgspec.UNSET)] * 2


def test_a_device_that_has_lost_its_own_bundle_gets_it_again(fleet: Fleet) -> None:
    made = fleet.shadow()
    fleet.world.say("cam-1", bundle=None, order_counter=fleet.world.order("cam-1").counter)
    fleet.world.settle()
    assert (fleet.view(made).state, fleet.orders()[0]) == ("stopped", (fleet.champion, msgspec.UNSET))


def test_a_person_stops_it(fleet: Fleet) -> None:
    made = fleet.shadow()
    rollout_steps.stop(fleet.world.engine, made, by="person", now=fleet.world.clock())
    fleet.world.settle()
    assert (fleet.view(made).reason, fleet.orders()) == ("stopped by person", [(fleet.champion, msgspec.UNSET)] * 2)


def test_an_update_under_way_is_not_overtaken(fleet: Fleet) -> None:
    fleet.world.say("cam-1", bundle=fleet.champion, phase="fetching")
    made = fleet.shadow()
    assert (fleet.view(made).devices, fleet.orders()[0]) == ({"cam-1": "pending", "cam-2": "ordered"}, (fleet.champion, msgspec.UNSET))
    fleet.world.say("cam-1", bundle=fleet.champion)
    fleet.world.settle()
    assert fleet.orders()[0] == (fleet.challenger, True)


def test_it_waits_for_approval_and_is_alone(fleet: Fleet) -> None:
    made = fleet.shadow(approved=False)
    assert (fleet.view(made).state, fleet.orders()) == ("proposed", [(fleet.champion, msgspec.UNSET)] * 2)
    rollouts.approve(fleet.world.engine, made, by="person", now=fleet.world.clock())
    assert fleet.view(made).state == "shadow"
    with pytest.raises(Conflict, match="under way"):
        fleet.shadow()


def test_what_runs_already_has_no_shadow_of_itself(fleet: Fleet) -> None:
    with pytest.raises(BadRequest, match="beside another bundle"):
        rollouts.create(fleet.world.engine, Plan(fleet.champion, shadow=True), by="test", now=fleet.world.clock())


def test_what_a_device_makes_up_counts_for_nothing(fleet: Fleet) -> None:
    made = fleet.shadow()
    for inputs in (-5, "many", True, 1.5):
        fleet.compare("cam-1", inputs, 3)
    fleet.tell("cam-1", "shadow.compared", candidate=fleet.champion, inputs=GATE)
    assert fleet.view(made).compared["cam-1"]["inputs"] == 0


def test_the_server_shows_what_a_device_runs_beside_its_own(fleet: Fleet) -> None:
    fleet.world.say("cam-1", bundle=fleet.champion, shadow=fleet.challenger)
    assert devices.get(fleet.world.engine, "cam-1", fleet.world.clock()).shadow == fleet.challenger
    fleet.world.say("cam-1", bundle=fleet.champion)
    assert devices.get(fleet.world.engine, "cam-1", fleet.world.clock()).shadow is None
