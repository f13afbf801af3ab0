"""Attacks on the signed metadata, against the agent's own client. Whatever is shown to it, it runs what it ran; once an honest server is back it goes on."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from tests.fakes.agent_repository import LIFETIME, MemoryRepository
from tests.fakes.attacked_device import AttackedDevice

FAR = 2**40


def _strip(body: dict) -> None:
    body["signatures"] = []


def _unsigned(world) -> None:
    world.repository.edit("timestamp.json", _strip)


def _unsigned_releases(world) -> None:
    world.repository.edit(f"{world.repository.meta['releases.json']}.releases.json", _strip)


def _wrong_key(world) -> None:
    world.repository.show({**world.repository.files, "metadata/timestamp.json": MemoryRepository().files["metadata/timestamp.json"]})


def _key_of_another_role(world) -> None:
    repository = world.repository
    signed = repository.read("timestamp.json").signed
    repository.put("timestamp.json", signed, repository.key("releases"), repository.key("snapshot"))


def _changed_after_signing(world) -> None:
    name = f"metadata/{world.repository.meta['releases.json']}.releases.json"
    world.repository.files[name] = world.repository.files[name].replace(b"toy-2.0.0", b"toy-2.0.1")


def _longer_than_named(world) -> None:
    name = f"{world.repository.meta['releases.json']}.releases.json"
    world.repository.edit(name, lambda body: body["signed"]["targets"].update(evil=next(iter(body["signed"]["targets"].values()))))


def _another_type(world) -> None:
    """A snapshot, signed by a key that may also sign it, where the timestamp belongs."""
    repository = world.repository
    snapshot = repository.read(f"{repository._versions['snapshot']}.snapshot.json").signed
    repository.put("timestamp.json", snapshot, repository.key("timestamp"))


def _mix_and_match(world) -> None:
    """The newest snapshot with the releases of an older one in the place of those it names."""
    repository, newest = world.repository, world.repository.meta["releases.json"]
    repository.files[f"metadata/{newest}.releases.json"] = repository.files[f"metadata/{newest - 1}.releases.json"]


def _nonsense(world) -> None:
    world.repository.files["metadata/timestamp.json"] = b"[" * 15_000


@pytest.mark.parametrize(
    ("attack", "code"),
    [
        pytest.param(_unsigned, "tuf-untrusted", id="unsigned timestamp"),
        pytest.param(_unsigned_releases, "tuf-untrusted", id="unsigned releases"),
        pytest.param(_wrong_key, "tuf-untrusted", id="wrong key"),
        pytest.param(_key_of_another_role, "tuf-untrusted", id="keys of other roles"),
        pytest.param(_changed_after_signing, "tuf-untrusted", id="changed after signing"),
        pytest.param(_longer_than_named, "too-large", id="longer than signed"),
        pytest.param(_another_type, "tuf-untrusted", id="another type of metadata"),
        pytest.param(_mix_and_match, "tuf-untrusted", id="mix and match"),
        pytest.param(_nonsense, "tuf-untrusted", id="deep nesting"),
    ],
)
def test_metadata_that_does_not_hold_only_delays(world, attack: Callable, code: str) -> None:
    world.publish("2.0.0")
    honest = world.repository.remember()
    attack(world)
    world.order("2.0.0", 2)
    assert world.device.settle() == code
    assert world.device.version == "1.0.0"
    world.repository.show(honest)
    assert world.converges("2.0.0", 2)


class TestRollback:
    @pytest.fixture
    def yesterday(self, world) -> dict[str, bytes]:
        """Files from before version 2.0.0 came out, which the device runs by now."""
        files = world.repository.remember()
        world.publish("2.0.0")
        world.device.install(world.archives["2.0.0"], 2)
        return files

    @pytest.mark.parametrize(
        "torn",
        [
            pytest.param((), id="with whole local metadata"),
            pytest.param(("timestamp.json",), id="after the local timestamp was torn"),
            pytest.param(("timestamp.json", "snapshot.json"), id="after timestamp and snapshot were torn"),
            pytest.param(("timestamp.json", "snapshot.json", "targets.json", "releases.json", "root.json"), id="after all roles were torn"),
            pytest.param(("floor",), id="after the version floors were torn"),
        ],
    )
    @pytest.mark.parametrize("damage", [bytes, lambda: b'{"signed": {"version"'], ids=["empty", "half"])
    def test_old_metadata_is_refused(self, world, yesterday: dict, torn: tuple[str, ...], damage: Callable[[], bytes]) -> None:
        honest = world.repository.remember()
        world.repository.show(yesterday)
        for name in torn:
            (world.device.folder / "tuf" / name).write_bytes(damage())
        world.device.restart()
        world.order("1.0.0", 3)
        assert world.device.settle() == "tuf-rollback"
        assert world.device.version == "2.0.0"
        world.repository.show(honest)
        assert world.converges("1.0.0", 3)


class TestFreeze:
    def test_metadata_that_is_shown_for_ever_ends(self, world) -> None:
        world.device.clock.ahead = LIFETIME + timedelta(days=1)
        world.order("1.0.0", 2)
        assert world.device.settle() == "tuf-expired"
        assert world.device.version == "1.0.0"

    def test_a_clock_that_is_set_back_does_not_revive_it(self, world) -> None:
        """What the repository signed since then is a floor under the clock."""
        repository, device = world.repository, world.device
        frozen = repository.remember()
        later = device.clock.now() + LIFETIME
        timestamp = repository.read("timestamp.json").signed
        timestamp.version += 5
        timestamp.expires = (later + LIFETIME).replace(microsecond=0)
        timestamp.unrecognized_fields["x-edgefleet-signed-at"] = (later + timedelta(days=1)).isoformat()
        root = repository._root
        root.version, root.expires = root.version + 1, timestamp.expires
        repository._sign_root()
        repository.put("timestamp.json", timestamp, repository.key("timestamp"))
        world.order("1.0.0", 2)
        assert device.settle() == "tuf-expired"  # snapshot and targets are as old as they are
        assert device.time.now() > later
        for name in ("timestamp.json", "floor"):
            (device.folder / "tuf" / name).unlink()
        repository.show(frozen)
        device.restart()
        world.order("1.0.0", 2)
        assert device.settle() == "tuf-expired"
        assert device.version == "1.0.0"


class TestFastForward:
    def test_far_versions_end_with_the_keys_that_signed_them(self, world) -> None:
        """A thief of the online keys counts so far ahead that no honest version follows, until root replaces the keys."""
        repository, device = world.repository, world.device
        honest = dict(repository._versions)
        repository.name_by_online_keys(repository.meta, ahead=FAR)
        world.order("1.0.0", 2)
        assert device.settle() is None
        repository._versions = honest
        world.publish("2.0.0")
        world.order("2.0.0", 3)
        assert device.settle() == "tuf-rollback"
        assert device.version == "1.0.0"
        repository.replace_keys("timestamp", "snapshot")
        repository.commit()
        assert world.converges("2.0.0", 3)

    def test_a_version_beyond_what_can_be_counted_is_no_version(self, world) -> None:
        world.publish("2.0.0")
        honest = world.repository.remember()
        world.repository.name_by_online_keys(world.repository.meta, ahead=2**60)
        world.order("2.0.0", 2)
        assert world.device.settle() == "tuf-untrusted"
        world.repository.show(honest)
        assert world.converges("2.0.0", 2)


HOSTILE_NAMES = ("../../../evil", "..", "/etc/evil", "a/b", "a?b", "x#y", "%2e%2e%2fevil", "timestamp", "1.root", "a\\b", "a\0b", "é" * 100)


class TestNames:
    @pytest.mark.parametrize("name", HOSTILE_NAMES, ids=ascii)
    def test_a_role_may_have_any_name_and_leads_nowhere(self, world, name: str) -> None:
        """The targets key is stolen, or its holder careless. What cannot be a file of that folder is asked for under a quoted name, or not at all."""
        repository, device = world.repository, world.device
        before = _tree(device.folder.parent)
        repository.delegate_to(name)
        world.order("1.0.0", 2)
        device.settle()
        with pytest.raises(Exception, match=r"metadata|not found|no such|not-found|named"):
            device.trust.refresh()
            device.trust.target("bundles/toy-3.0.0.bundle")
        assert all(_is_plain(path) for path in device.server.asked())
        new = {path for path in _tree(device.folder.parent) - before if path.parent.name != "tuf"}
        assert {path.name for path in new if path.is_file()} <= {"journal.json", "time"}
        assert device.version == "1.0.0"

    @pytest.mark.parametrize(
        "path", ["../../evil", "/etc/passwd", "bundles/../../evil", "bundles/a?b", "bundles/a#b", "bundles/%2e%2e", "bundles\\evil"]
    )
    def test_an_order_for_a_hostile_target_name_is_refused(self, world, path: str) -> None:
        world.order("1.0.0", 2, target_path=path)
        assert world.device.settle() is None
        assert world.device.codes("order.rejected") == ["bad-order"]
        assert not any("evil" in asked or "passwd" in asked for asked in world.device.server.asked())
        assert world.device.version == "1.0.0"


def _tree(folder: Path) -> set[Path]:
    return set(folder.rglob("*"))


def _is_plain(path: str) -> bool:
    folder, _, name = path.rpartition("/")
    return folder in ("metadata", "targets/bundles") and not {"?", "#", "\0", "\\"} & {*name} and name not in ("..", ".")


def test_a_device_that_has_nothing_yet_is_not_taken_in_by_yesterday(tmp_path, world) -> None:
    """Its pinned root is all it has: an expired repository is refused from the first moment on."""
    fresh = AttackedDevice(tmp_path / "fresh", world.repository)
    fresh.clock.ahead = LIFETIME + timedelta(days=1)
    fresh.order(world.archives["1.0.0"], 1)
    assert fresh.settle() == "tuf-expired"
    assert fresh.version is None
