"""Trust comes from signatures and versions; a server that misbehaves delays, and does not deceive."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import DelegatedRole, Delegations, Metadata, MetaFile, Targets

from edge_agent.clock import BUILT_AT, SystemClock
from edge_agent.errors import Reject, Retry
from edge_agent.trust import rules, workflow
from edge_agent.trust.client import Trust, expiries
from edge_agent.trust.time import TrustedTime
from fleet_contract import blocks, limits, order
from fleet_contract.release import Delta, Release, to_custom
from tests.fakes.agent_repository import MemoryRepository
from tests.fakes.agent_time import WallClock
from tests.fakes.agent_world import MemoryFiles
from tests.fakes.small_bundle import small_bundle

PATH = "bundles/toy-1.0.0.bundle"


class World:
    def __init__(self, folder: Path) -> None:
        self.folder = folder / "tuf"
        self.repository = MemoryRepository()
        self.files = MemoryFiles(self.repository.files)
        self.archive = small_bundle()
        self.repository.publish(self.archive)
        self.trust = self.restart()

    def restart(self) -> Trust:
        return Trust(self.folder, self.repository.root_v1, self.files, TrustedTime(self.folder / "time", SystemClock(), BUILT_AT))


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_a_signed_target_is_found_with_its_block_index(world: World) -> None:
    target = world.trust.target(PATH)
    assert (target.length, target.index.length) == (len(world.archive), len(world.archive))
    assert world.files.files[target.fetch_path] == world.archive


def test_the_orders_keys_are_those_that_targets_delegates(world: World) -> None:
    world.trust.refresh()
    public = world.repository.orders_key.public_key()
    assert world.trust.orders_keys() == {order.keyid(public): public}


def test_nothing_new_costs_two_requests(world: World) -> None:
    world.trust.refresh()
    world.files.reads.clear()
    world.trust.refresh()
    assert world.files.reads == ["metadata/2.root.json", "metadata/timestamp.json"]


def test_a_rotated_root_is_walked_to_and_the_pinned_one_stays_the_anchor(world: World) -> None:
    world.trust.refresh()
    world.repository.rotate_root()
    world.repository.rotate_root()
    world.repository.commit()
    assert world.restart().target(PATH).length == len(world.archive)
    assert "metadata/3.root.json" in world.files.reads


def test_a_run_walks_so_many_roots_and_the_next_one_goes_on(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workflow, "_MAX_ROOT_ROTATIONS", 2)
    for _ in range(5):
        world.repository.rotate_root()
    world.repository.commit()
    newest = []
    for _ in range(3):
        world.restart().refresh()
        newest.append(max(int(path.stem) for path in (world.folder / "roots").iterdir()))
    assert newest == [3, 5, 6]


def test_a_missing_root_link_after_a_power_cut_is_healed(world: World) -> None:
    world.trust.refresh()
    (world.folder / "root.json").unlink()
    assert world.restart().target(PATH)


def _forge_timestamp(world: World) -> None:
    stranger = MemoryRepository()
    world.files.files["metadata/timestamp.json"] = stranger.files["metadata/timestamp.json"]


def _flip_releases(world: World) -> None:
    path = "metadata/2.releases.json"
    world.files.files[path] = world.files.files[path].replace(b"bundles/toy", b"bundles/tor")


def _expire(world: World) -> None:
    world.repository.commit(expires=datetime.now(UTC).replace(microsecond=0) - timedelta(hours=1))


def _garble(world: World) -> None:
    world.files.files["metadata/timestamp.json"] = b"\xff not json"


def _go_offline(world: World) -> None:
    world.files.offline = True


def _remove(world: World) -> None:
    del world.files.files["metadata/timestamp.json"]


@pytest.mark.parametrize(
    ("misbehave", "code"),
    [
        pytest.param(_forge_timestamp, "tuf-untrusted", id="a timestamp of strange keys"),
        pytest.param(_flip_releases, "tuf-untrusted", id="releases changed after signing"),
        pytest.param(_expire, "tuf-expired", id="an expired timestamp"),
        pytest.param(_garble, "tuf-untrusted", id="no metadata at all"),
        pytest.param(_go_offline, "offline", id="no network"),
        pytest.param(_remove, "not-found", id="no timestamp"),
    ],
)
def test_bad_metadata_is_a_reason_to_wait_never_to_give_up(world: World, misbehave: Callable[[World], None], code: str) -> None:
    misbehave(world)
    with pytest.raises(Retry) as caught:
        world.trust.target(PATH)
    assert caught.value.code == code


def test_it_goes_on_once_the_server_behaves_again(world: World) -> None:
    good = world.files.files["metadata/timestamp.json"]
    _garble(world)
    with pytest.raises(Retry):
        world.trust.refresh()
    world.files.files["metadata/timestamp.json"] = good
    assert world.trust.target(PATH)


def test_a_repository_that_was_mended_is_asked_anew(world: World) -> None:
    names = {path: data for path, data in world.files.files.items() if path.endswith(".releases.json")}
    for path in names:
        del world.files.files[path]
    with pytest.raises(Retry) as caught:
        world.trust.target(PATH)
    assert caught.value.code == "not-found"
    world.repository.publish(small_bundle("2.0.0"))
    assert world.trust.target(PATH)


def test_a_target_that_is_not_published_yet_may_come(world: World) -> None:
    with pytest.raises(Retry) as caught:
        world.trust.target("bundles/toy-2.0.0.bundle")
    assert caught.value.code == "no-target"
    world.repository.publish(small_bundle("2.0.0"))
    assert world.trust.target("bundles/toy-2.0.0.bundle")


def test_a_target_without_a_block_index_is_rejected(world: World) -> None:
    world.repository.publish(small_bundle("3.0.0"), custom={})
    with pytest.raises(Reject) as caught:
        world.trust.target("bundles/toy-3.0.0.bundle")
    assert caught.value.code == "bad-blocks"


@pytest.mark.parametrize(
    ("path", "most"),
    [
        pytest.param("metadata/2.root.json", limits.MAX_ROOT_METADATA_BYTES, id="root"),
        pytest.param("metadata/timestamp.json", limits.MAX_TIMESTAMP_METADATA_BYTES, id="timestamp"),
        pytest.param("metadata/2.snapshot.json", limits.MAX_SNAPSHOT_METADATA_BYTES, id="snapshot"),
        pytest.param("metadata/1.targets.json", limits.MAX_METADATA_BYTES, id="targets"),
        pytest.param("metadata/2.releases.json", limits.MAX_METADATA_BYTES, id="a role below targets"),
    ],
)
def test_each_role_has_its_bound(world: World, path: str, most: int) -> None:
    world.files.files[path] = bytes(most + 1)
    with pytest.raises(Retry) as caught:
        world.trust.target(PATH)
    assert caught.value.code == "too-large"


def test_a_chain_of_slow_reads_ends(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of them within what one may take."""
    for _ in range(8):
        world.repository.rotate_root()
    clock = WallClock(datetime.now(UTC))
    trust = Trust(world.folder, world.repository.root_v1, world.files, TrustedTime(world.folder / "time", clock, BUILT_AT))
    read = world.files.read

    def slowly(path: str, max_bytes: int) -> bytes:
        clock.pass_s(55.0)
        return read(path, max_bytes)

    monkeypatch.setattr(world.files, "read", slowly)
    with pytest.raises(Retry) as caught:
        trust.refresh()
    assert caught.value.code == "deadline"
    assert len(world.files.reads) < 8


def test_a_target_names_the_deltas_that_make_it(world: World) -> None:
    archive, base = small_bundle("4.0.0"), "ab" * 32
    delta = "bundles/toy-4.0.0.from-abababababababab.delta"
    release = Release("toy", "4.0.0", [Delta(base, delta)])
    world.repository.publish(archive, custom=to_custom(blocks.index_of(archive), release))
    assert dict(world.trust.target("bundles/toy-4.0.0.bundle").deltas) == {base: delta}


def _strange_roots(world: World) -> None:
    stranger = MemoryRepository()
    stranger.rotate_root()
    for version in (1, 2):
        (world.folder / "roots" / f"{version}.json").write_bytes(stranger.files[f"metadata/{version}.root.json"])
    (world.folder / "root.json").write_bytes(stranger.root_v1)


def _strange_everything(world: World) -> None:
    _strange_roots(world)
    stranger = MemoryRepository()
    for role, name in (("timestamp", "timestamp"), ("snapshot", "1.snapshot"), ("targets", "1.targets"), ("releases", "1.releases")):
        (world.folder / f"{role}.json").write_bytes(stranger.files[f"metadata/{name}.json"])


def _nonsense(world: World) -> None:
    for path in world.folder.rglob("*.json"):
        path.write_bytes(b"[" * 100_000)


def _nothing_left(world: World) -> None:
    for path in world.folder.rglob("*.json"):
        path.unlink()


@pytest.mark.parametrize("spoil", [_strange_roots, _strange_everything, _nonsense, _nothing_left])
def test_the_anchor_is_the_pinned_root_whatever_is_on_the_disk(world: World, spoil: Callable[[World], None]) -> None:
    world.repository.rotate_root()
    world.repository.commit()
    world.trust.target(PATH)
    spoil(world)
    assert world.restart().target(PATH).length == len(world.archive)
    assert (world.folder / "root.json").read_bytes() == world.files.files["metadata/2.root.json"]


def test_what_a_cut_off_write_left_is_swept(world: World) -> None:
    world.trust.refresh()
    strays = [world.folder / ".timestamp.json.new", world.folder / "roots" / ".2.json.new"]
    for stray in strays:
        stray.write_bytes(b"half")
    world.restart().refresh()
    assert [stray.exists() for stray in strays] == [False, False]


def test_what_one_delegator_vouches_for_says_nothing_for_another() -> None:
    keys = [CryptoSigner.generate_ed25519() for _ in range(2)]
    expires = datetime.now(UTC).replace(microsecond=0) + timedelta(days=1)
    release = Metadata(Targets(version=1, expires=expires))
    release.sign(keys[0])
    left, right = (_delegating(key) for key in keys)
    assert rules.targets(left, "release", release.to_bytes(), MetaFile(1)).version == 1
    with pytest.raises(Retry) as caught:
        rules.targets(right, "release", release.to_bytes(), MetaFile(1))
    assert caught.value.code == "tuf-untrusted"


def _delegating(signer: CryptoSigner) -> Targets:
    key = signer.public_key
    return Targets(
        version=1, delegations=Delegations({key.keyid: key}, {"release": DelegatedRole("release", [key.keyid], 1, False, ["*"])})
    )


class TestRollback:
    def test_older_metadata_is_refused(self, world: World) -> None:
        old = world.files.files["metadata/timestamp.json"]
        world.repository.commit()
        world.trust.refresh()
        world.files.files["metadata/timestamp.json"] = old
        with pytest.raises(Retry):
            world.trust.refresh()

    def test_a_damaged_timestamp_does_not_make_the_device_forget(self, world: World) -> None:
        old = world.files.files["metadata/timestamp.json"]
        world.repository.commit()
        world.trust.refresh()
        (world.folder / "timestamp.json").write_bytes(b"damaged by a power cut")
        (world.folder / "snapshot.json").write_bytes(b"damaged by a power cut")
        world.files.files["metadata/timestamp.json"] = old
        with pytest.raises(Retry) as caught:
            world.restart().refresh()
        assert caught.value.code == "tuf-rollback"

    def test_an_old_root_is_refused_after_the_chain_on_the_disk_was_lost(self, world: World) -> None:
        for _ in range(3):
            world.repository.rotate_root()
        world.repository.commit()
        world.trust.refresh()
        for path in (world.folder / "roots").iterdir():
            path.unlink()
        withheld = world.files.files.pop("metadata/4.root.json")
        with pytest.raises(Retry) as caught:
            world.restart().refresh()
        assert caught.value.code == "tuf-rollback"
        world.files.files["metadata/4.root.json"] = withheld
        assert world.restart().target(PATH)

    def test_a_root_that_replaces_the_keys_may_count_from_one_again(self, world: World) -> None:
        world.trust.refresh()
        world.repository.rotate_root(replace_timestamp_key=True)
        world.repository.commit()
        for name in ("timestamp.json", "snapshot.json"):
            (world.folder / name).unlink()
        assert world.restart().target(PATH)


def test_expiries_of_what_is_stored(world: World) -> None:
    world.trust.refresh()
    ends = expiries(world.folder)
    assert set(ends) == {"root", "timestamp", "snapshot", "targets"}
    assert min(ends.values()) > datetime.now(UTC)


def test_expiries_of_nothing(tmp_path: Path) -> None:
    with pytest.raises(Retry):
        expiries(tmp_path)
