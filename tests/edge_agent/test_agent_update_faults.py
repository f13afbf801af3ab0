"""An update among mishaps: killed workers, restarts without end, orders that overtake a download, and a person who steps in."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest

from edge_agent.errors import Reject, Retry
from edge_agent.ports import Conduct
from edge_agent.update import phases
from edge_agent.update.loop import UpdateLoop
from edge_agent.update.phases import Phase, Step
from edge_agent.update.requests import PARDON, ROLLBACK
from edge_agent.update.state import Reliability
from fleet_contract.backoff import Backoff
from fleet_contract.bundle import Bundle
from tests.fakes.agent_device import ONE, THREE, TWO, Device

KILLED = Reject("the worker is gone", code="child-crash")


@pytest.fixture
def device(tmp_path: Path) -> Device:
    """Runs 1.0.0."""
    device = Device(tmp_path)
    device.install(ONE)
    device.files.sent.clear()
    return device


class TestLostWorkers:
    def _kill(self, device: Device, phase: Phase, times: int) -> None:
        refusals = {Phase.PROVING: device.host.refuse_proof, Phase.SWITCHING: device.host.refuse_activation}[phase]
        refusals["2.0.0"] = KILLED
        device.order(TWO, 2)
        device.answer(TWO)
        device.until(phase)
        for _ in range(times):
            device.executor.turn()
        refusals.clear()
        device.settle()

    @pytest.mark.parametrize("phase", [Phase.PROVING, Phase.SWITCHING])
    def test_one_that_is_killed_is_not_held_against_the_bundle(self, device: Device, phase: Phase) -> None:
        self._kill(device, phase, times=1)
        assert device.version == "2.0.0"
        assert device.events().count("update.lost") == 1

    @pytest.mark.parametrize("phase", [Phase.PROVING, Phase.SWITCHING])
    def test_the_second_is(self, device: Device, phase: Phase) -> None:
        self._kill(device, phase, times=2)
        assert (device.version, device.state.quarantined) == ("1.0.0", (Bundle(TWO).sha256,))
        assert (device.last("update.rejected")["code"], device.last("update.rejected")["phase"]) == ("child-crash", phase.value)

    def test_on_the_way_back_it_is_tried_again_and_the_old_bundle_is_never_forgotten(self, device: Device) -> None:
        device.order(TWO, 2)
        device.until(Phase.PROBATION)
        device.answer(TWO, 0, hangs=1)
        device.host.refuse_activation["1.0.0"] = KILLED
        for _ in range(8):
            _turn(device)
        assert (device.version, device.state.phase, device.host.active_sha256) == ("1.0.0", Phase.IDLE, None)
        device.host.refuse_activation.clear()
        device.settle()
        assert device.host.active_sha256 == Bundle(ONE).sha256

    def test_at_a_start_too(self, device: Device) -> None:
        device.restart()
        device.host.refuse_activation["1.0.0"] = KILLED
        for _ in range(8):
            with pytest.raises(Retry, match="does not start"):
                device.executor.turn()
        device.host.refuse_activation.clear()
        device.settle()
        assert (device.version, device.host.active_sha256) == ("1.0.0", Bundle(ONE).sha256)


class TestProbation:
    def test_the_bundle_is_measured_by_the_one_before_it(self, device: Device) -> None:
        device.answer(ONE, 1_000, non_finite=100)
        device.order(TWO, 2)
        device.answer(TWO, 100, non_finite=10)
        device.settle()
        assert (device.version, device.state.rival) == ("2.0.0", Reliability(1_100, 100))

    def test_and_what_is_known_of_that_survives_a_restart(self, device: Device) -> None:
        device.answer(ONE, 1_000, non_finite=100)
        device.order(TWO, 2)
        device.until(Phase.PROBATION)
        device.restart()
        device.answer(TWO, 100, non_finite=10)
        device.settle()
        assert device.version == "2.0.0"

    @pytest.mark.parametrize(
        ("failures", "code"),
        [
            pytest.param({"crashes": 2}, "probation-crash", id="it crashes"),
            pytest.param({"hangs": 1}, "probation-hang", id="it hangs"),
            pytest.param({"non_finite": 1}, "probation-non-finite", id="it answers NaN"),
            pytest.param({"wrong": 1}, "probation-wrong-answer", id="its answer has another shape"),
            pytest.param({"over_memory": 1}, "probation-memory", id="it wants too much memory"),
            pytest.param({"slow": 9}, "probation-slow", id="it is slow"),
        ],
    )
    def test_what_it_does_wrong_sends_the_device_back(self, device: Device, failures: dict[str, int], code: str) -> None:
        device.order(TWO, 2)
        device.answer(TWO, 15, **failures)
        device.settle()
        assert (device.version, device.host.active_sha256) == ("1.0.0", Bundle(ONE).sha256)
        assert device.last("update.rolled-back")["code"] == code
        assert device.state.quarantined == (Bundle(TWO).sha256,)

    def test_known_answers_are_asked_once_more_before_it_passes(self, device: Device) -> None:
        device.host.refuse_examination = Reject("7 is not 8", code="wrong-answer")
        device.order(TWO, 2)
        device.answer(TWO)
        device.settle()
        assert (device.version, device.last("update.rolled-back")["code"]) == ("1.0.0", "wrong-answer")

    def test_one_that_cannot_be_asked_does_not_stay_for_ever(self, device: Device) -> None:
        device.host.refuse_examination = Retry("no worker", code="worker-unavailable")
        device.order(TWO, 2)
        device.answer(TWO)
        with pytest.raises(Retry, match="no worker"):
            device.settle()
        device.clock.elapsed_s += device.terms.longest_s
        device.settle()
        assert (device.version, device.last("update.rolled-back")["code"]) == ("1.0.0", "probation-unproven")

    def test_after_a_roll_back_a_restart_does_not_try_it_again(self, device: Device) -> None:
        device.order(TWO, 2)
        device.answer(TWO, 15, hangs=1)
        device.settle()
        device.restart()
        device.order(TWO, 2)
        device.settle()
        device.order(TWO, 3)
        device.settle()
        assert (device.version, device.host.activated) == ("1.0.0", ["1.0.0"])

    def test_unless_a_person_lifts_the_quarantine(self, device: Device) -> None:
        device.order(TWO, 2)
        device.answer(TWO, 15, hangs=1)
        device.settle()
        device.requests.ask(PARDON)
        device.restart()
        device.answer(TWO)
        device.settle()
        assert (device.version, device.state.quarantined, device.requests.asked(PARDON)) == ("2.0.0", (), False)
        assert "quarantine.cleared" in device.events()


class TestNoEnd:
    def test_a_download_may_be_cut_off_often_and_not_for_ever(self, device: Device) -> None:
        device.files.budget = 0
        device.order(TWO, 2)
        _turn(device, times=2)
        assert (device.state.phase, phases.move(Phase.FETCHING, Step.RESTARTED).cost) == (Phase.FETCHING, 1)
        device.journal.write(msgspec.structs.replace(device.state, spent=phases.BUDGET - 5))
        for _ in range(8):
            device.restart()
            _turn(device)
        assert (device.version, device.state.phase, device.state.quarantined) == ("1.0.0", Phase.IDLE, ())
        assert device.last("update.rejected")["code"] == "exhausted-before"
        device.files.budget = None
        device.install(TWO, 3)

    def test_a_disk_that_loses_each_download(self, device: Device) -> None:
        device.order(TWO, 2)
        for _ in range(200):
            if device.state.phase is Phase.VERIFYING:
                device.slots.staging(device.state).part().write_bytes(bytes(len(TWO)))
            if not device.executor.turn():
                break
        assert (device.version, device.state.phase) == ("1.0.0", Phase.IDLE)
        assert device.last("update.rejected")["code"] == "exhausted-before"
        assert device.events().count("update.verifying") <= 8

    def test_what_the_order_cannot_pay_for_is_not_switched_to(self, device: Device) -> None:
        """A download that was cut off often, then a power cut just before the switch: what is given up must not answer."""
        device.order(TWO, 2)
        device.until(Phase.SWITCHING)
        cost = phases.move(Phase.SWITCHING, Step.RESTARTED).cost
        device.journal.write(msgspec.structs.replace(device.state, spent=phases.BUDGET - cost))
        device.restart()
        device.settle()
        assert (device.version, device.host.activated, device.host.active_sha256) == ("1.0.0", ["1.0.0"], Bundle(ONE).sha256)
        assert device.last("update.rejected")["code"] == "exhausted"

    def test_a_way_back_that_takes_the_device_down_ends_with_the_old_bundle(self, device: Device) -> None:
        device.order(TWO, 2)
        device.until(Phase.PROBATION)
        device.answer(TWO, 0, hangs=1)
        device.until(Phase.REVERTING)
        for _ in range(8):
            device.restart()
            device.executor._recover()
        assert (device.version, device.state.phase) == ("1.0.0", Phase.IDLE)


class TestOvertakenDownloads:
    @pytest.mark.parametrize(
        "interrupt",
        [
            pytest.param(lambda device: device.order(THREE, 3), id="another order"),
            pytest.param(lambda device: device.recall(), id="a person's wish"),
            pytest.param(lambda device: device.executor.close(), id="the end of the agent"),
        ],
    )
    def test_it_ends_at_once(self, device: Device, interrupt: Callable[[Device], None]) -> None:
        device.order(TWO, 2)
        device.files.spoil = lambda index, data: (interrupt(device), data)[1] if index == 3 else data
        device.until(Phase.FETCHING)
        device.executor.turn()
        assert (device.state.phase, device.files.sent[-1]) == (Phase.FETCHING, 3)

    def test_the_newer_order_is_followed(self, device: Device) -> None:
        device.order(TWO, 2)
        device.until(Phase.FETCHING)
        device.files.spoil = lambda index, data: (device.order(THREE, 3), data)[1]
        device.answer(THREE)
        device.executor.turn()
        device.files.spoil = lambda index, data: data
        device.settle()
        assert (device.version, device.state.counter) == ("3.0.0", 3)

    def test_the_same_order_again_does_not_end_it(self, device: Device) -> None:
        envelope = device.repository.order(TWO, 2)
        device.inbox.put(envelope)
        device.files.spoil = lambda index, data: (device.inbox.put(envelope), data)[1]
        device.answer(TWO)
        device.settle()
        assert (device.version, len(device.files.sent)) == ("2.0.0", len(set(device.files.sent)))

    def test_a_recall_while_fetching_goes_back_and_then_on_with_the_order(self, device: Device) -> None:
        device.install(TWO, 2)
        device.order(THREE, 3)
        device.until(Phase.FETCHING)
        device.recall()
        device.answer(THREE)
        device.settle()
        assert device.version == "3.0.0"
        assert "update.rolled-back" in device.events()
        assert device.state.quarantined == (Bundle(TWO).sha256,)


def test_a_wish_that_was_granted_does_not_come_again_with_the_power(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    device.requests.ask(ROLLBACK)
    synced: list[Path] = []
    monkeypatch.setattr(os, "fsync", lambda handle: synced.append(Path(f"/proc/self/fd/{handle}").readlink()))
    device.requests.granted(ROLLBACK)
    assert synced == [device.folder]


class TestAppeal:
    @contextmanager
    def _updating(self, device: Device) -> Iterator[UpdateLoop]:
        loop = UpdateLoop(device.executor, backoff=Backoff(first_s=0.01, longest_s=0.05))
        loop.start()
        try:
            yield loop
        finally:
            loop.close()

    def test_without_a_trial_it_returns_at_once(self, device: Device) -> None:
        UpdateLoop(device.executor).appeal()

    def test_a_bundle_that_fails_is_replaced_when_it_returns(self, device: Device) -> None:
        device.order(TWO, 2)
        device.until(Phase.PROBATION)
        device.answer(TWO, 0, non_finite=1)
        with self._updating(device) as loop:
            loop.appeal()
            assert device.host.active_sha256 == Bundle(ONE).sha256

    def test_one_that_is_forgiven_is_still_there(self, device: Device) -> None:
        device.order(TWO, 2)
        device.until(Phase.PROBATION)
        device.answer(TWO, 1, crashes=1)
        with self._updating(device) as loop:
            loop.appeal()
            assert device.host.active_sha256 == Bundle(TWO).sha256

    def test_the_end_of_the_agent_ends_the_wait(self, device: Device) -> None:
        device.order(TWO, 2)
        device.until(Phase.PROBATION)
        loop = UpdateLoop(device.executor)
        loop.close()
        loop.appeal()
        assert device.host.conduct(Bundle(TWO).sha256) == Conduct()


def _turn(device: Device, times: int = 1) -> None:
    for _ in range(times):
        try:
            device.executor.turn()
        except Retry:
            continue
