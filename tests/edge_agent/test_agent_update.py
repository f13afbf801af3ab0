"""A whole update against a real TUF repository: from a signed order to a committed bundle, and every way in which it may end otherwise."""

import hashlib
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tuf.api.metadata import TargetFile

from edge_agent.errors import Reject, Retry, Unproven
from edge_agent.ports import Choice, Measurement
from edge_agent.update.phases import Phase
from edge_agent.update.requests import ROLLBACK
from edge_agent.update.state import State
from fleet_contract import blocks
from fleet_contract.bundle import Bundle
from tests.fakes.agent_device import ONE, THREE, TWO, Device
from tests.fakes.agent_repository import campaign
from tests.fakes.agent_run_models import bundle


@pytest.fixture
def device(tmp_path: Path) -> Device:
    return Device(tmp_path)


class TestTheWayThrough:
    def test_an_order_is_followed_step_by_step(self, device: Device) -> None:
        device.order(ONE)
        device.answer(ONE)
        device.settle()
        steps = ["fetching", "verifying", "proving", "switching", "probation", "active"]
        assert device.events() == [f"update.{step}" for step in steps]
        assert (device.version, device.state.phase, device.state.counter, device.state.error) == ("1.0.0", Phase.IDLE, 1, None)
        assert device.host.active_sha256 == Bundle(ONE).sha256

    def test_the_server_hears_what_it_runs_on(self, device: Device) -> None:
        device.install(ONE)
        assert device.last("update.active") == {
            "sha256": Bundle(ONE).sha256,
            "version": "1.0.0",
            "variant": "fp32",
            "backend": "onnxruntime:cpu",
            "latency_p50_us": 10.0,
        }

    def test_the_server_hears_what_every_backend_showed(self, device: Device) -> None:
        device.install(ONE)
        assert device.measurements() == [
            {
                "bundle": Bundle(ONE).sha256,
                "variant": "fp32",
                "backend": "onnxruntime:cpu",
                "verdict": "right",
                "message": "",
                "p50_us": 10.0,
                "p99_us": 20.0,
                "memory_bytes": 50_000_000,
                "load_ms": 5.0,
                "max_difference": 0.0,
                "chosen": True,
            }
        ]

    def test_the_server_hears_what_every_backend_showed_though_none_was_right(self, device: Device) -> None:
        shown = (
            Measurement("int8", "litert:edgetpu", "child-crash", "it ended (exit status -11)"),
            Measurement("int8", "litert:cpu", "wrong-answer", "off by 3"),
        )
        device.host.refuse_proof["1.0.0"] = Unproven("off by 3", code="wrong-answer", measurements=shown)
        device.order(ONE)
        device.settle()
        assert device.last("update.rejected")["code"] == "wrong-answer"
        told = [(one["backend"], one["verdict"], one["message"], one["chosen"]) for one in device.measurements()]
        assert told == [
            ("litert:edgetpu", "child-crash", "it ended (exit status -11)", False),
            ("litert:cpu", "wrong-answer", "off by 3", False),
        ]

    def test_a_start_asks_for_what_was_chosen_on_install(self, device: Device) -> None:
        device.install(ONE)
        device.restart()
        device.settle()
        assert device.host.chosen == Choice("fp32", "onnxruntime:cpu")

    def test_the_probation_waits_for_answers_of_the_new_bundle(self, device: Device) -> None:
        device.order(ONE)
        device.settle()
        assert (device.state.phase, device.version) == (Phase.PROBATION, "1.0.0")
        device.answer(ONE)
        device.settle()
        assert device.state.phase is Phase.IDLE

    def test_without_input_the_probation_ends_by_time(self, device: Device) -> None:
        device.order(ONE)
        device.settle()
        device.clock.elapsed_s += 10
        device.settle()
        assert device.state.phase is Phase.IDLE

    def test_the_next_bundle_goes_to_the_other_slot_and_takes_only_what_differs(self, device: Device) -> None:
        device.install(ONE)
        before = device.slots.path("a").read_bytes()
        device.files.sent.clear()
        device.install(TWO, 2)
        assert (device.state.active.slot, device.state.previous.version) == ("b", "1.0.0")
        assert device.slots.path("a").read_bytes() == before
        assert len(device.files.sent) < len(TWO) // 4096 // 2
        assert device.last("update.verifying")["reused_bytes"] > 20_000

    def test_an_order_for_what_runs_moves_only_the_counter_and_the_campaign(self, device: Device) -> None:
        device.install(ONE)
        events = device.events()
        device.order(ONE, 2, sampling=campaign())
        device.settle()
        assert (device.state.counter, device.state.order.sampling) == (2, campaign())
        assert device.events() == events

    def test_the_same_retained_order_again_changes_nothing(self, device: Device) -> None:
        device.install(ONE)
        envelope = device.repository.order(ONE, 1)
        device.inbox.put(envelope)
        device.settle()
        device.inbox.put(envelope)
        device.files.reads.clear()
        device.settle()
        assert device.files.reads == []

    def test_bundles_are_read_only_and_private(self, device: Device) -> None:
        device.install(ONE)
        assert device.slots.path("a").stat().st_mode & 0o777 == 0o400


class TestBadOrders:
    @pytest.mark.parametrize(
        ("changes", "code"),
        [
            pytest.param({"device": "dev-2"}, "order-misdirected", id="for another device"),
            pytest.param({"profile": "generic-arm64"}, "order-misdirected", id="for another hardware profile"),
            pytest.param({"counter": 4}, "order-replayed", id="an old counter"),
            pytest.param(
                {"issued_at": datetime(2026, 1, 1, tzinfo=UTC), "not_after": datetime(2026, 1, 2, tzinfo=UTC)},
                "order-expired",
                id="expired",
            ),
            pytest.param({"key": Ed25519PrivateKey.generate()}, "order-forgery", id="signed by a stranger"),
        ],
    )
    def test_it_is_told_once_and_changes_nothing(self, device: Device, changes: dict, code: str) -> None:
        device.install(ONE, 5)
        before = device.state
        envelope = device.repository.order(TWO, **{"counter": 6, **changes})
        for _ in range(2):
            device.inbox.put(envelope)
            device.settle()
        assert device.last("order.rejected")["code"] == code
        assert device.events().count("order.rejected") == 1
        assert device.state == before

    def test_not_even_an_envelope(self, device: Device) -> None:
        device.inbox.put(b"\x00garbage")
        device.settle()
        assert device.last("order.rejected")["code"] == "bad-order"

    def test_the_floor_survives_a_restart(self, device: Device) -> None:
        device.install(ONE, 5)
        device.restart()
        device.order(TWO, 4)
        device.settle()
        assert device.last("order.rejected")["code"] == "order-replayed"

    def test_an_order_that_disagrees_with_the_signed_metadata(self, device: Device) -> None:
        device.install(ONE)
        device.order(TWO, 2, sha256="f" * 64)
        device.settle()
        assert device.last("update.rejected")["code"] == "bad-target"
        assert (device.version, device.state.phase) == ("1.0.0", Phase.IDLE)


class TestBadBundles:
    def test_for_another_profile(self, device: Device) -> None:
        archive = bundle(profiles=["generic-arm64"], version="9.0.0")
        device.repository.publish(archive)
        device.install(ONE)
        device.order(archive, 2)
        device.settle()
        assert device.last("update.rejected")["code"] == "wrong-profile"
        assert device.host.proven == ["1.0.0"]

    def test_signed_and_no_bundle_at_all(self, device: Device) -> None:
        flipped = bytearray(ONE)
        flipped[-40] ^= 1
        device.install(ONE)
        device.repository.files |= _published_as(device, bytes(flipped))
        device.order(ONE, 2, sha256=_digest(flipped), target_path="bundles/toy-1.0.0.bundle")
        device.settle()
        assert device.last("update.rejected")["code"] == "bad-bundle"
        assert device.version == "1.0.0"

    def test_one_that_fails_its_proof_is_rejected_for_good(self, device: Device) -> None:
        device.install(ONE)
        device.host.refuse_proof["2.0.0"] = Reject("7 is not 8", code="wrong-answer")
        device.order(TWO, 2)
        device.settle()
        assert device.last("update.rejected")["code"] == "wrong-answer"
        assert (device.version, device.state.error) == ("1.0.0", "wrong-answer: 7 is not 8")
        assert device.host.activated == ["1.0.0"]
        device.order(TWO, 3)
        device.settle()
        assert device.last("update.rejected")["code"] == "quarantined"
        assert device.host.proven == ["1.0.0", "2.0.0"]

    def test_the_next_good_one_is_taken(self, device: Device) -> None:
        device.install(ONE)
        device.host.refuse_proof["2.0.0"] = Reject("7 is not 8", code="wrong-answer")
        device.order(TWO, 2)
        device.settle()
        device.install(THREE, 3)

    def test_a_crash_on_probation_rolls_back_without_the_server(self, device: Device) -> None:
        device.install(ONE)
        device.order(TWO, 2)
        device.until(Phase.PROBATION)
        device.files.offline = True
        device.answer(TWO, 3, crashes=2)
        device.settle()
        assert (device.version, device.state.phase, device.host.active_sha256) == ("1.0.0", Phase.IDLE, Bundle(ONE).sha256)
        assert device.events()[-2:] == ["update.rejected", "update.rolled-back"]
        assert device.last("update.rolled-back") == {
            "sha256": Bundle(TWO).sha256,
            "version": "2.0.0",
            "to": Bundle(ONE).sha256,
            "code": "probation-crash",
            "message": "its worker crashed: 2 times in 5 requests",
        }

    def test_a_first_bundle_that_crashes_leaves_none(self, device: Device) -> None:
        device.order(ONE)
        device.until(Phase.PROBATION)
        device.answer(ONE, 0, crashes=2)
        device.settle()
        assert (device.version, device.host.active_sha256, device.state.phase) == (None, None, Phase.IDLE)


class TestTheWorldIsNotReady:
    def test_offline_the_order_waits(self, device: Device) -> None:
        device.files.offline = True
        device.order(ONE)
        with pytest.raises(Retry):
            device.settle()
        device.files.offline = False
        device.answer(ONE)
        device.settle()
        assert device.version == "1.0.0"

    def test_a_cut_download_goes_on_where_it_was(self, device: Device) -> None:
        device.files.budget = 5
        device.order(ONE)
        with pytest.raises(Retry):
            device.settle()
        assert device.state.phase is Phase.FETCHING
        device.files.budget = None
        device.restart()
        device.answer(ONE)
        device.settle()
        assert device.version == "1.0.0"
        assert len(device.files.sent) == len(set(device.files.sent))

    def test_a_spoilt_block_is_asked_for_again(self, device: Device) -> None:
        spoilt = [3]

        def spoil(index: int, data: bytes) -> bytes:
            return bytes(len(data)) if index in spoilt and not spoilt.remove(index) else data

        device.files.spoil = spoil
        device.install(ONE)
        assert device.files.sent.count(3) == 2

    def test_only_spoilt_blocks_end_in_a_retry_not_in_a_loop(self, device: Device) -> None:
        device.files.spoil = lambda index, data: b"x" * len(data)
        device.order(ONE)
        with pytest.raises(Retry) as caught:
            device.settle()
        assert caught.value.code == "bad-block"

    def test_what_the_disk_lost_is_fetched_again(self, device: Device) -> None:
        device.order(ONE)
        device.until(Phase.VERIFYING)
        part = device.slots.staging(device.state).part()
        part.write_bytes(b"\x00" * len(ONE))
        device.answer(ONE)
        device.settle()
        assert device.version == "1.0.0"
        assert device.events()[:3] == ["update.fetching", "update.verifying", "update.fetching"]


class TestRestart:
    @pytest.mark.parametrize("phase", [phase for phase in Phase if phase not in (Phase.IDLE, Phase.REVERTING)])
    def test_an_update_goes_on_from_any_phase(self, device: Device, phase: Phase) -> None:
        device.install(ONE)
        device.order(TWO, 2)
        device.until(phase)
        device.restart()
        device.answer(TWO)
        device.settle()
        assert (device.version, device.host.active_sha256) == ("2.0.0", Bundle(TWO).sha256)

    def test_a_roll_back_goes_on_too(self, device: Device) -> None:
        device.install(ONE)
        device.order(TWO, 2)
        device.until(Phase.PROBATION)
        device.answer(TWO, 0, crashes=2)
        device.until(Phase.REVERTING)
        device.restart()
        device.settle()
        assert (device.version, device.host.active_sha256) == ("1.0.0", Bundle(ONE).sha256)
        assert "2.0.0" not in device.host.activated

    def test_offline_the_active_bundle_comes_up(self, device: Device) -> None:
        device.install(ONE)
        device.files.offline = True
        device.restart()
        device.settle()
        assert device.host.active_sha256 == Bundle(ONE).sha256

    @pytest.mark.parametrize("phase", [Phase.PROVING, Phase.SWITCHING, Phase.PROBATION])
    def test_a_bundle_that_takes_the_device_down_again_and_again_is_rejected(self, device: Device, phase: Phase) -> None:
        device.install(ONE)
        device.order(TWO, 2)
        device.until(phase)
        for _ in range(6):
            device.restart()
            device.executor._recover()
        device.settle()
        assert device.last("update.rejected")["code"] == "exhausted"
        assert (device.version, device.host.active_sha256) == ("1.0.0", Bundle(ONE).sha256)

    def test_an_active_bundle_that_rotted_gives_way_and_is_fetched_again(self, device: Device) -> None:
        device.install(ONE)
        device.install(TWO, 2)
        path = device.slots.path("b")
        path.chmod(0o600)
        path.write_bytes(b"\x00" + TWO[1:])
        device.restart()
        device.settle()
        assert device.events()[-8:-6] == ["update.reverting", "update.rolled-back"]
        assert device.version == "2.0.0"
        device.restart()
        device.settle()
        assert device.host.active_sha256 == Bundle(TWO).sha256

    def test_one_that_starts_no_more_gets_a_second_chance_and_then_gives_way(self, device: Device) -> None:
        device.install(ONE)
        device.install(TWO, 2)
        device.restart()
        device.host.refuse_activation["2.0.0"] = Reject("too slow", code="child-timeout")
        for _ in range(2):
            with pytest.raises(Retry):
                device.settle()
        device.settle()
        assert device.version == "1.0.0"


class TestOvertaken:
    @pytest.mark.parametrize("phase", [Phase.FETCHING, Phase.VERIFYING, Phase.PROVING, Phase.PROBATION])
    def test_a_newer_order_replaces_an_update_on_its_way(self, device: Device, phase: Phase) -> None:
        device.install(ONE)
        device.order(TWO, 2)
        device.until(phase)
        device.order(THREE, 3)
        device.answer(THREE)
        device.settle()
        assert (device.version, device.state.phase) == ("3.0.0", Phase.IDLE)

    def test_called_back_on_probation_the_old_one_is_not_fetched(self, device: Device) -> None:
        device.install(ONE)
        device.order(TWO, 2)
        device.until(Phase.PROBATION)
        device.files.sent.clear()
        device.order(ONE, 3)
        device.settle()
        assert (device.version, device.files.sent) == ("1.0.0", [])


class TestRecall:
    def test_a_person_may_roll_back_without_the_server_and_it_stays_so(self, device: Device) -> None:
        device.install(ONE)
        device.install(TWO, 2)
        device.files.offline = True
        device.recall()
        device.settle()
        assert (device.version, device.requests.asked(ROLLBACK)) == ("1.0.0", False)
        device.files.offline = False
        device.restart()
        device.order(TWO, 2)
        device.settle()
        assert device.version == "1.0.0"

    def test_also_on_probation(self, device: Device) -> None:
        device.install(ONE)
        device.order(TWO, 2)
        device.until(Phase.PROBATION)
        device.recall()
        device.settle()
        assert (device.version, device.requests.asked(ROLLBACK)) == ("1.0.0", False)

    def test_with_nothing_to_go_back_to_it_says_so(self, device: Device) -> None:
        device.install(ONE)
        device.recall()
        device.settle()
        assert (device.version, device.requests.asked(ROLLBACK)) == ("1.0.0", False)
        assert "no previous bundle" in device.state.error


class Lost(BaseException):
    """The power."""


def _cut(device: Device, at: int) -> Callable[[], bool]:
    """The power fails at the n-th durable write; whether it did."""
    writes = [0]
    original = device.journal.write

    def write(state: State) -> None:
        writes[0] += 1
        if writes[0] == at:
            raise Lost
        original(state)

    device.journal.write = write  # type: ignore[method-assign]
    return lambda: writes[0] >= at


@pytest.mark.parametrize("at", range(1, 9))
def test_power_may_fail_before_any_journal_entry(device: Device, at: int) -> None:
    device.install(ONE)
    failed = _cut(device, at)
    device.order(TWO, 2)
    device.answer(TWO)
    try:
        device.settle()
    except Lost:
        assert failed()
    del device.journal.write  # type: ignore[attr-defined]
    device.restart()
    assert device.state.active.version in ("1.0.0", "2.0.0")
    device.order(TWO, 2)
    device.settle()
    assert (device.version, device.state.phase, device.host.active_sha256) == ("2.0.0", Phase.IDLE, Bundle(TWO).sha256)


def test_a_full_disk_holds_an_update_up_and_no_more(device: Device) -> None:
    device.install(ONE)
    device.store._failures[:] = [3]
    device.order(TWO, 2)
    device.answer(TWO)
    for _ in range(3):
        with pytest.raises(Retry):
            device.settle()
    device.settle()
    assert device.version == "2.0.0"


def _digest(data: bytes | bytearray) -> str:
    return hashlib.sha256(data).hexdigest()


def _published_as(device: Device, archive: bytes) -> dict[str, bytes]:
    """Sign bytes that are no bundle under version 1's name: a key holder's mistake."""
    path = "bundles/toy-1.0.0.bundle"
    fields = {"custom": blocks.to_custom(blocks.index_of(archive))}
    device.repository._releases.targets[path] = TargetFile(len(archive), {"sha256": _digest(archive)}, path, fields)
    device.repository._releases.version += 1
    device.repository.commit()
    return {f"targets/bundles/{_digest(archive)}.toy-1.0.0.bundle": archive}
