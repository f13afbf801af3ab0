"""A user of the device itself, without root, and the gap between a check and the use of what was checked."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from edge_agent.ports import Proof
from fleet_contract.bundle import Bundle
from fleet_contract.errors import BadBundle
from tests.fakes.small_bundle import small_bundle

EVIL = small_bundle("6.6.6", model=b"evil")


def _slot(world) -> Path:
    return world.device.slots.path(world.device.state.active.slot)


def _overwrite(path: Path) -> None:
    path.chmod(0o600)
    path.write_bytes(EVIL)


def _flip(path: Path) -> None:
    path.chmod(0o600)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def _link(path: Path) -> None:
    (path.parent / "elsewhere").write_bytes(path.read_bytes())
    path.unlink()
    path.symlink_to("elsewhere")


def _fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _open_to_all(path: Path) -> None:
    path.chmod(0o666)


def _link_folder(path: Path) -> None:
    path.parent.rename(path.parent.with_name("moved"))
    path.parent.symlink_to("moved")


@pytest.mark.parametrize(
    ("edit", "code"),
    [
        pytest.param(_overwrite, "bad-digest", id="another bundle in its place"),
        pytest.param(_flip, "bad-digest", id="one bit"),
        pytest.param(Path.unlink, "bad-slot", id="removed"),
        pytest.param(_link, "bad-slot", id="a link to the same bytes"),
        pytest.param(_fifo, "bad-slot", id="a pipe that nobody writes to"),
        pytest.param(_open_to_all, "bad-slot", id="writable by everybody"),
        pytest.param(_link_folder, "bad-slot", id="its folder is a link"),
    ],
)
def test_an_edited_slot_is_never_run(world, edit: Callable[[Path], None], code: str) -> None:
    """At the next start the device goes to its previous bundle, and the server sends what is missing again."""
    world.publish("2.0.0")
    assert world.converges("2.0.0", 2)
    edit(_slot(world))
    world.device.restart()
    world.device.executor.turn()
    assert "2.0.0" not in world.device.host.activated
    assert code in world.device.codes("slot.damaged")
    world.device.settle()
    assert world.device.host.active_sha256 == world.device.state.active.sha256
    world.publish("3.0.0")
    assert world.converges("3.0.0", 3)


class TestBetweenCheckAndUse:
    def test_a_bundle_that_is_swapped_while_it_is_proven_is_not_switched_to(self, world) -> None:
        """The proof was given by other bytes than those that would run: the bundle is fetched and proven again."""
        world.publish("2.0.0")
        device = world.device
        honest = device.host.prove

        def prove_and_swap(bundle: Bundle) -> Proof:
            device.host.prove = honest
            proof = honest(bundle)
            _overwrite(device.slots.path(device.state.candidate.slot))
            return proof

        device.host.prove = prove_and_swap
        world.order("2.0.0", 2)
        assert device.settle() is None
        assert device.version == "2.0.0"
        assert device.host.proven == ["1.0.0", "2.0.0", "2.0.0"]
        assert device.host.activated == ["1.0.0", "2.0.0"]

    @pytest.mark.parametrize("swap", [_overwrite, _flip, _link, Path.unlink, _fifo], ids=lambda swap: swap.__name__.strip("_"))
    def test_what_is_swapped_after_it_was_opened_is_not_read(self, world, swap: Callable[[Path], None]) -> None:
        """The host gets an opened bundle: whatever its path comes to name, each entry is what was signed or an error."""
        opened = world.device.slots.open(world.device.state.active)
        entry = opened.manifest.variants[0].entry
        before = opened.read(entry)
        swap(_slot(world))
        try:
            assert opened.read(entry) == before
        except (BadBundle, OSError):
            return

    def test_a_part_that_is_a_link_is_not_followed(self, world, tmp_path: Path) -> None:
        """A local user would have the agent overwrite a file of somebody else."""
        precious = tmp_path / "precious"
        precious.write_bytes(b"precious")
        part = world.device.slots.path("b").with_name("part")
        part.parent.mkdir(parents=True, exist_ok=True)
        part.symlink_to(precious)
        world.publish("2.0.0")
        assert world.converges("2.0.0", 2)
        assert precious.read_bytes() == b"precious"

    def test_a_part_of_someone_elses_bytes_is_proven_again(self, world) -> None:
        """What an unfinished download holds is believed block by block, or not at all."""
        world.publish("2.0.0")
        part = world.device.slots.path("b").with_name("part")
        part.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(EVIL * 50)
        assert world.converges("2.0.0", 2)


@pytest.mark.parametrize("name", ["timestamp.json", "snapshot.json", "targets.json", "releases.json", "root.json", "floor"])
@pytest.mark.parametrize("damage", [b"", b"\xff\xfe", b"{}", b"[" * 50_000], ids=["empty", "noise", "empty object", "deep"])
def test_edited_metadata_is_not_believed(world, name: str, damage: bytes) -> None:
    world.publish("2.0.0")
    (world.device.folder / "tuf" / name).write_bytes(damage)
    world.device.restart()
    assert world.converges("2.0.0", 2)
