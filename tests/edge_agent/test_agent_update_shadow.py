"""An order for a shadow: a bundle that is fetched and proven like any other, runs beside the one that serves, and never answers."""

from pathlib import Path

import pytest

from edge_agent.errors import Reject, Retry, Unproven
from edge_agent.ports import Choice
from edge_agent.update.phases import Phase
from fleet_contract.bundle import Bundle
from tests.fakes.agent_device import ONE, THREE, TWO, Device

CROWDED = Unproven("48 MiB are left", code="no-room")
BUSY = Reject("too slow", code="too-slow")


@pytest.fixture
def device(tmp_path: Path) -> Device:
    """Runs 1.0.0."""
    device = Device(tmp_path)
    device.install(ONE)
    device.files.sent.clear()
    return device


@pytest.fixture
def shadowed(device: Device) -> Device:
    """Runs 1.0.0, and 2.0.0 beside it."""
    shadow(device, TWO)
    return device


def shadow(device: Device, archive: bytes, counter: int = 2) -> None:
    device.order(archive, counter, shadow=True)
    device.settle()
    assert runs(device) == ("1.0.0", Bundle(archive).sha256)


def runs(device: Device) -> tuple[str | None, str | None]:
    """What answers, and what runs beside it."""
    assert device.host.active_sha256 == (device.state.active.sha256 if device.state.active else None)
    return device.version, device.guest.running()


class TestTheWayThrough:
    def test_nothing_is_switched(self, shadowed: Device) -> None:
        steps = ["fetching", "verifying", "proving", "shadowed"]
        assert shadowed.events()[-4:] == [f"update.{step}" for step in steps]
        assert (shadowed.state.phase, shadowed.state.error, shadowed.host.activated) == (Phase.IDLE, None, ["1.0.0"])
        assert (shadowed.host.proven, shadowed.guest.proven) == (["1.0.0"], ["2.0.0"])
        assert (shadowed.state.shadow.slot, shadowed.state.previous) == ("b", None)

    def test_the_server_hears_what_it_was_proven_on(self, shadowed: Device) -> None:
        told = shadowed.last("update.shadowed")
        assert (told["sha256"], told["version"], told["backend"]) == (Bundle(TWO).sha256, "2.0.0", "onnxruntime:cpu")
        assert shadowed.measurements()[-1]["bundle"] == Bundle(TWO).sha256

    def test_it_is_started_again_as_it_was_proven(self, shadowed: Device) -> None:
        shadowed.restart()
        shadowed.settle()
        assert runs(shadowed) == ("1.0.0", Bundle(TWO).sha256)
        assert (shadowed.guest.proven, shadowed.guest.chosen) == ([], Choice("fp32", "onnxruntime:cpu"))

    def test_a_renewed_order_does_not_disturb_it(self, shadowed: Device) -> None:
        shadowed.order(TWO, 3, shadow=True)
        shadowed.settle()
        assert shadowed.guest.started == ["2.0.0"]

    def test_a_shadow_of_what_answers_is_nothing_to_do(self, device: Device) -> None:
        device.order(ONE, 2, shadow=True)
        device.settle()
        assert (runs(device), device.state.shadow) == (("1.0.0", None), None)


class TestItsEnd:
    @pytest.mark.parametrize(
        ("archive", "as_shadow", "left"),
        [
            pytest.param(THREE, {}, ("3.0.0", None), id="another bundle"),
            pytest.param(THREE, {"shadow": True}, ("1.0.0", Bundle(THREE).sha256), id="another shadow"),
            pytest.param(ONE, {}, ("1.0.0", None), id="what answers already"),
            pytest.param(TWO, {}, ("2.0.0", None), id="the shadow itself"),
        ],
    )
    def test_a_newer_order_ends_it_before_its_slot_is_written(
        self, shadowed: Device, archive: bytes, as_shadow: dict, left: tuple[str, str | None]
    ) -> None:
        beside: list[str | None] = []
        staging = shadowed.slots.staging
        shadowed.slots.staging = lambda state: (beside.append(shadowed.guest.running()), staging(state))[1]  # type: ignore[method-assign]
        shadowed.order(archive, 3, **as_shadow)
        shadowed.answer(archive)
        shadowed.settle()
        assert runs(shadowed) == left
        assert {*beside} <= {None}

    def test_when_it_is_to_answer_nothing_is_fetched_again(self, shadowed: Device) -> None:
        shadowed.files.sent.clear()
        shadowed.install(TWO, 3)
        assert shadowed.files.sent == []
        assert (shadowed.state.previous.version, shadowed.state.shadow) == ("1.0.0", None)

    def test_after_it_the_way_back_is_to_nothing(self, shadowed: Device) -> None:
        shadowed.recall()
        shadowed.settle()
        assert "no previous bundle" in shadowed.state.error
        assert runs(shadowed) == ("1.0.0", Bundle(TWO).sha256)

    def test_an_order_that_makes_a_shadow_of_what_is_on_probation_sends_it_back(self, device: Device) -> None:
        device.order(TWO, 2)
        device.until(Phase.PROBATION)
        device.order(TWO, 3, shadow=True)
        device.settle()
        assert runs(device) == ("1.0.0", Bundle(TWO).sha256)
        assert device.state.quarantined == ()

    @pytest.mark.parametrize("phase", [Phase.FETCHING, Phase.VERIFYING, Phase.PROVING])
    def test_one_that_is_on_its_way_becomes_what_the_newest_order_says(self, device: Device, phase: Phase) -> None:
        device.order(TWO, 2, shadow=True)
        device.until(phase)
        device.order(TWO, 3)
        device.answer(TWO)
        device.settle()
        assert runs(device) == ("2.0.0", None)


class TestMishaps:
    def test_one_that_fails_its_proof_is_rejected_for_good(self, device: Device) -> None:
        device.guest.refuse_proof["2.0.0"] = Reject("7 is not 8", code="wrong-answer")
        device.order(TWO, 2, shadow=True)
        device.settle()
        assert device.last("update.rejected")["code"] == "wrong-answer"
        assert (runs(device), device.state.quarantined) == (("1.0.0", None), (Bundle(TWO).sha256,))
        device.order(TWO, 3, shadow=True)
        device.settle()
        assert device.last("update.rejected")["code"] == "quarantined"
        assert device.guest.proven == ["2.0.0"]

    def test_without_room_it_is_refused_and_not_held_against_it(self, device: Device) -> None:
        device.guest.refuse_proof["2.0.0"] = CROWDED
        device.order(TWO, 2, shadow=True)
        device.settle()
        assert (device.last("update.rejected")["code"], device.state.quarantined) == ("no-room", ())
        assert runs(device) == ("1.0.0", None)
        device.install(TWO, 3)

    @pytest.mark.parametrize(
        ("error", "told"), [pytest.param(BUSY, 1, id="refused"), pytest.param(Retry("x", code="worker-unavailable"), 0, id="not ready")]
    )
    def test_one_that_does_not_start_holds_nothing_up_and_is_tried_again(self, device: Device, error: Exception, told: int) -> None:
        device.guest.refuse_start["2.0.0"] = error
        device.order(TWO, 2, shadow=True)
        for _ in range(3):
            device.settle()
            device.clock.elapsed_s += 60
        assert (device.guest.started, device.events().count("shadow.refused")) == (["2.0.0"] * 3, told)
        device.guest.refuse_start.clear()
        device.settle()
        assert runs(device) == ("1.0.0", Bundle(TWO).sha256)

    def test_it_is_not_tried_again_all_the_time(self, device: Device) -> None:
        device.guest.refuse_start["2.0.0"] = BUSY
        device.order(TWO, 2, shadow=True)
        for _ in range(3):
            device.settle()
        assert device.guest.started == ["2.0.0"]

    @pytest.mark.parametrize("at_start", [pytest.param(True, id="at a start"), pytest.param(False, id="within the hour")])
    def test_what_the_disk_lost_is_fetched_again(self, shadowed: Device, at_start: bool) -> None:
        path = shadowed.slots.path("b")
        path.chmod(0o600)
        path.write_bytes(b"\x00" + TWO[1:])
        if at_start:
            shadowed.restart()
        else:
            shadowed.clock.elapsed_s += 3_600
        shadowed.settle()
        assert shadowed.last("slot.damaged")["sha256"] == Bundle(TWO).sha256
        assert runs(shadowed) == ("1.0.0", Bundle(TWO).sha256)
        assert path.read_bytes() == TWO

    @pytest.mark.parametrize("phase", [Phase.FETCHING, Phase.VERIFYING, Phase.PROVING])
    def test_a_start_goes_on_from_any_phase(self, device: Device, phase: Phase) -> None:
        device.order(TWO, 2, shadow=True)
        device.until(phase)
        device.restart()
        device.settle()
        assert runs(device) == ("1.0.0", Bundle(TWO).sha256)

    def test_offline_both_come_up(self, shadowed: Device) -> None:
        shadowed.files.offline = True
        shadowed.restart()
        shadowed.settle()
        assert runs(shadowed) == ("1.0.0", Bundle(TWO).sha256)


class Lost(BaseException):
    """The power."""


def cut(device: Device, at: int) -> None:
    """The power fails instead of the n-th journal entry."""
    writes, original = [0], device.journal.write

    def write(state) -> None:
        writes[0] += 1
        if writes[0] == at:
            raise Lost
        original(state)

    device.journal.write = write  # type: ignore[method-assign]


@pytest.mark.parametrize("at", range(1, 8))
@pytest.mark.parametrize(
    ("archive", "as_shadow", "left"),
    [
        pytest.param(THREE, {"shadow": True}, ("1.0.0", Bundle(THREE).sha256), id="another shadow"),
        pytest.param(TWO, {}, ("2.0.0", None), id="the shadow is to answer"),
        pytest.param(ONE, {}, ("1.0.0", None), id="its end"),
    ],
)
def test_power_may_fail_before_any_journal_entry(
    shadowed: Device, at: int, archive: bytes, as_shadow: dict, left: tuple[str, str | None]
) -> None:
    cut(shadowed, at)
    shadowed.order(archive, 3, **as_shadow)
    shadowed.answer(archive)
    try:
        shadowed.settle()
    except Lost:
        pass
    del shadowed.journal.write  # type: ignore[attr-defined]
    shadowed.restart()
    shadowed.order(archive, 3, **as_shadow)
    shadowed.settle()
    assert runs(shadowed) == left
