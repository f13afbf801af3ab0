"""Trust comes from signatures and versions; a server that misbehaves delays, and does not deceive."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from edge_agent.clock import BUILT_AT, SystemClock
from edge_agent.errors import Reject, Retry
from edge_agent.trust.client import Trust, expiries
from edge_agent.trust.time import TrustedTime
from fleet_contract import order
from tests.fakes.agent_repository import MemoryRepository
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


def test_a_missing_root_link_after_a_power_cut_is_healed(world: World) -> None:
    world.trust.refresh()
    (world.folder / "root.json").unlink()
    assert world.restart().target(PATH)


def _forge_timestamp(world: World) -> None:
    stranger = MemoryRepository()
    world.files.files["metadata/timestamp.json"] = stranger.files["metadata/timestamp.json"]


def _flip_releases(world: World) -> None:
    path = "metadata/2.releases.json"
    body = json.loads(world.files.files[path])
    body["signed"]["version"] = 2
    body["signed"]["targets"][PATH]["length"] += 1
    world.files.files[path] = json.dumps(body).encode()


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
