"""What lies in the slots: who may write it, what is caught when somebody else did, and that the active slot is never written."""

import hashlib
import os
import shutil
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from edge_agent.errors import Reject, Retry
from edge_agent.update.phases import Phase
from edge_agent.update.slots import Slots
from edge_agent.update.state import Installed, State
from fleet_contract.bundle import Bundle
from fleet_contract.errors import BadBundle
from tests.fakes.agent_device import ONE, TWO, Device


def _edit(path: Path) -> None:
    """As root would, or whoever the file belongs to."""
    path.chmod(0o600)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def _replace_by_link(path: Path) -> None:
    other = path.with_name("elsewhere")
    path.rename(other)
    path.symlink_to(other)


def _replace_folder_by_link(path: Path) -> None:
    other = path.parent.with_name("elsewhere")
    path.parent.rename(other)
    path.parent.symlink_to(other)


def _replace_by_fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _cut_short(path: Path) -> None:
    path.chmod(0o600)
    os.truncate(path, 10)


TAMPERING = [
    pytest.param(_edit, "bad-digest", id="one bit is another"),
    pytest.param(_cut_short, "bad-digest", id="cut short"),
    pytest.param(_replace_by_link, "bad-slot", id="a link to the same bytes"),
    pytest.param(_replace_folder_by_link, "bad-slot", id="a folder that is a link"),
    pytest.param(_replace_by_fifo, "bad-slot", id="a pipe that never ends"),
    pytest.param(lambda path: path.chmod(0o660), "bad-slot", id="others may write it"),
    pytest.param(lambda path: path.unlink(), "bad-slot", id="gone"),
]


@pytest.fixture
def installed(tmp_path: Path) -> tuple[Slots, Installed]:
    slots = Slots(tmp_path / "slots")
    installed = Installed("a", Bundle(ONE).sha256, len(ONE))
    staging = slots.staging(State(candidate=installed))
    staging.part().write_bytes(ONE)
    staging.seal()
    return slots, installed


class TestOpening:
    def test_what_was_installed(self, installed: tuple[Slots, Installed]) -> None:
        slots, one = installed
        assert slots.open(one).sha256 == one.sha256

    @pytest.mark.parametrize(("tamper", "code"), TAMPERING)
    def test_what_was_tampered_with_is_refused(self, installed: tuple[Slots, Installed], tamper: Callable[[Path], None], code: str) -> None:
        slots, one = installed
        tamper(slots.path("a"))
        with pytest.raises(Reject) as caught:
            slots.open(one)
        assert caught.value.code == code

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
    def test_a_file_of_another_user_is_refused(self, installed: tuple[Slots, Installed]) -> None:
        slots, one = installed
        os.chown(slots.path("a"), 65_534, -1)
        with pytest.raises(Reject, match="only this user may write"):
            slots.open(one)

    def test_another_bundle_swapped_in_after_the_check_never_reaches_a_worker(self, installed: tuple[Slots, Installed]) -> None:
        slots, one = installed
        opened = slots.open(one)
        slots.path("a").unlink()
        slots.path("a").write_bytes(TWO)
        with pytest.raises(BadBundle, match="digest"):
            opened.read("model.onnx")

    def test_a_link_swapped_in_after_the_check_is_not_followed(self, installed: tuple[Slots, Installed]) -> None:
        slots, one = installed
        opened = slots.open(one)
        _replace_by_link(slots.path("a"))
        with pytest.raises(OSError, match="Too many levels of symbolic links"):
            opened.read("model.onnx")

    def test_the_active_slot_cannot_be_asked_for_to_write(self, installed: tuple[Slots, Installed]) -> None:
        slots, one = installed
        with pytest.raises(Reject, match="write to the active slot"):
            slots.staging(State(active=one, candidate=Installed("a", "b" * 64, 1)))


@pytest.fixture
def device(tmp_path: Path) -> Device:
    """Runs 2.0.0 and had 1.0.0 before."""
    device = Device(tmp_path)
    device.install(ONE)
    device.install(TWO, 2)
    device.files.offline = True
    return device


class TestTamperedActiveSlot:
    @pytest.mark.parametrize(("tamper", "code"), TAMPERING)
    @pytest.mark.parametrize("found", ["at a start", "by the clock"])
    def test_it_gives_way_to_the_one_before_and_is_fetched_again(
        self, device: Device, found: str, tamper: Callable[[Path], None], code: str
    ) -> None:
        tamper(device.slots.path("b"))
        if found == "at a start":
            device.restart()
        else:
            device.clock.elapsed_s += 3_600
        _settle_offline(device)
        assert (device.version, device.host.active_sha256) == ("1.0.0", Bundle(ONE).sha256)
        assert (device.last("slot.damaged")["code"], device.last("slot.damaged")["slot"]) == (code, "b")
        device.files.offline = False
        device.answer(TWO)
        device.settle()
        device.clock.elapsed_s += 10
        device.settle()
        assert (device.version, device.state.quarantined) == ("2.0.0", ())

    def test_the_one_before_is_looked_at_too(self, device: Device) -> None:
        _edit(device.slots.path("a"))
        device.clock.elapsed_s += 3_600
        device.executor.turn()
        assert (device.version, device.state.previous) == ("2.0.0", None)
        assert device.last("slot.damaged")["version"] == "1.0.0"

    def test_an_only_bundle_answers_on_from_memory_and_is_fetched_again(self, tmp_path: Path) -> None:
        device = Device(tmp_path)
        device.install(ONE)
        _edit(device.slots.path("a"))
        device.clock.elapsed_s += 3_600
        device.files.offline = True
        _settle_offline(device)
        device.files.offline = False
        assert device.host.active_sha256 == Bundle(ONE).sha256
        device.clock.elapsed_s += 10
        device.settle()
        device.restart()
        device.settle()
        assert device.host.active_sha256 == Bundle(ONE).sha256

    def test_a_disk_that_keeps_nothing_ends_with_the_budget_of_the_order(self, device: Device) -> None:
        device.files.offline = False
        for _ in range(20):
            path = device.slots.path(device.state.active.slot)
            if device.version == "2.0.0":
                _edit(path)
            device.restart()
            device.settle()
            device.clock.elapsed_s += 10
            device.settle()
        assert (device.version, device.state.phase) == ("1.0.0", Phase.IDLE)
        assert device.events().count("slot.damaged") < 10


def _settle_offline(device: Device) -> None:
    with suppress(Retry):
        device.settle()


def test_the_active_slot_is_never_written_and_every_death_is_recovered_from(tmp_path: Path) -> None:
    """The process ends before one file operation of an update after the other; `bench install-kills --syscalls` does so at each system call."""
    template = Device(tmp_path / "template")
    template.install(ONE)
    deaths = 0
    while True:
        shutil.copytree(template.folder, tmp_path / f"d{deaths}", copy_function=shutil.copy2)
        device = Device(tmp_path / f"d{deaths}", template.repository)
        device.order(TWO, 2)
        device.answer(TWO)
        before = _seen(device.slots.path("a"))
        operation = 1 + deaths * _STRIDE
        died = _dies_at(operation, device)
        assert _seen(device.slots.path("a")) == before, f"operation {operation}"
        device.restart()
        device.order(TWO, 2)
        device.settle()
        assert _seen(device.slots.path("a")) == before, f"operation {operation}"
        assert (device.version, device.host.active_sha256) == ("2.0.0", Bundle(TWO).sha256), f"operation {operation}"
        if not died:
            break
        deaths += 1
        shutil.rmtree(device.folder)
    assert deaths > 20


_STRIDE = 3
_OPERATIONS = {"open", "os.rename", "os.remove", "os.mkdir", "os.chmod", "os.truncate"}


def _dies_at(operation: int, device: Device) -> bool:
    """Update in another process, which ends without a word before its n-th operation below the device's folder; whether there were so many."""
    process = os.fork()
    if not process:
        left = operation

        def end(event: str, arguments: tuple) -> None:
            nonlocal left
            if event in _OPERATIONS and str(device.folder) in str(arguments[0]):
                left -= 1
                if left == 0:
                    os._exit(9)

        sys.addaudithook(end)
        try:
            device.settle()
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 9


def _seen(path: Path) -> tuple[str, int, int, int]:
    found = path.stat()
    return hashlib.sha256(path.read_bytes()).hexdigest(), found.st_mtime_ns, found.st_ctime_ns, found.st_ino


def test_what_may_hold_blocks_of_a_new_bundle(installed: tuple[Slots, Installed]) -> None:
    """Both bundles, and what a rollback in the middle of a download left in the slot that is active now."""
    slots, one = installed
    two = Installed("b", Bundle(TWO).sha256, len(TWO))
    held = slots.held(State(active=one, previous=two))
    assert [(item.path.relative_to(slots.path("a").parent.parent).as_posix(), item.sha256) for item in held] == [
        ("a/bundle", one.sha256),
        ("b/bundle", two.sha256),
        ("a/part", ""),
    ]
    assert slots.held(State()) == []
