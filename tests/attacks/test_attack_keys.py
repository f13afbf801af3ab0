"""Stolen keys, against the agent's own client: what a thief can do with each, and that it ends when the key is replaced."""

from collections.abc import Callable
from datetime import timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tests.fakes.small_bundle import small_bundle

EVIL = small_bundle("9.0.0", model=b"evil")


def _stolen_online_keys_forge_releases(world) -> None:
    """Snapshot and timestamp keys name what the releases key never signed."""
    repository = world.repository
    forged = repository.read(f"{repository.meta['releases.json']}.releases.json").signed
    forged.version += 1
    repository.put(f"{forged.version}.releases.json", forged, repository.key("snapshot"), repository.key("timestamp"))
    repository.name_by_online_keys({**repository.meta, "releases.json": forged.version})


def _stolen_online_keys_leave_releases_out(world) -> None:
    world.repository.name_by_online_keys({"targets.json": world.repository.meta["targets.json"]})


def _stolen_online_keys_roll_releases_back(world) -> None:
    world.repository.name_by_online_keys({**world.repository.meta, "releases.json": 1})


def _stolen_timestamp_key_rolls_snapshot_back(world) -> None:
    repository = world.repository
    timestamp = repository.read("timestamp.json").signed
    timestamp.version += 1
    timestamp.snapshot_meta.version = 1
    repository.put("timestamp.json", timestamp, repository.key("timestamp"))


@pytest.mark.parametrize(
    ("attack", "code"),
    [
        pytest.param(_stolen_online_keys_forge_releases, "tuf-untrusted", id="forged releases"),
        pytest.param(_stolen_online_keys_leave_releases_out, "tuf-rollback", id="releases left out"),
        pytest.param(_stolen_online_keys_roll_releases_back, "tuf-rollback", id="old releases"),
        pytest.param(_stolen_timestamp_key_rolls_snapshot_back, "tuf-rollback", id="stolen timestamp key: old snapshot"),
    ],
)
def test_stolen_snapshot_and_timestamp_keys_only_delay_until_root_replaces_them(world, attack: Callable, code: str) -> None:
    world.publish("2.0.0")
    attack(world)
    world.order("2.0.0", 2)
    assert world.device.settle() == code
    assert world.device.version == "1.0.0"
    world.repository.replace_keys("timestamp", "snapshot")
    world.repository.commit()
    assert world.converges("2.0.0", 2)


def _one_root_key(world) -> None:
    world.repository.sign_root_with(1)


def _one_root_key_twice(world) -> None:
    world.repository.sign_root_with(1)
    name = f"{world.repository._root.version + 1}.root.json"
    world.repository.edit(name, lambda body: body["signatures"].append(body["signatures"][0]))


@pytest.mark.parametrize("attack", [_one_root_key, _one_root_key_twice], ids=["used once", "counted twice"])
def test_one_stolen_root_key_replaces_nothing(world, attack: Callable) -> None:
    world.publish("2.0.0")
    honest = world.repository.remember()
    attack(world)
    world.order("2.0.0", 2)
    assert world.device.settle() == "tuf-untrusted"
    assert world.device.version == "1.0.0"
    world.repository.show(honest)
    assert world.converges("2.0.0", 2)


class TestStolenTargetsKey:
    def test_whoever_holds_it_and_the_online_keys_rules_until_root_replaces_it(self, world) -> None:
        """The worst theft short of root: the thief delegates to keys of his own. After the rotation his bundle, keys and counter are worth nothing."""
        repository, device = world.repository, world.device
        world.publish("2.0.0")
        honest_orders_key = repository.orders_key
        honest_releases = dict(repository._releases.targets)
        repository.orders_key = Ed25519PrivateKey.generate()
        repository.publish(EVIL)
        repository.delegate_anew()
        device.install(EVIL, 1_000)
        thief = repository.order(EVIL, 1_001)

        repository.orders_key = honest_orders_key
        repository._releases.targets = honest_releases
        repository._releases.version += 1
        repository.replace_keys("targets", "timestamp", "snapshot")
        repository.delegate_anew()
        device.inbox.put(thief)
        assert device.settle() is None
        assert device.codes("order.rejected") == ["order-forgery"]
        assert world.converges("2.0.0", 2)

    @pytest.mark.parametrize("role", ["targets", "releases"])
    def test_alone_it_is_heard_by_nobody(self, world, role: str) -> None:
        """The thief can show devices what he likes, but snapshot names the very bytes, and he has no online keys: another file of the same
        version is none."""
        repository = world.repository
        repository.renew_targets()
        world.publish("2.0.0")
        honest, name = repository.remember(), f"{repository.meta[f'{role}.json']}.{role}.json"
        forged = repository.read(name).signed
        forged.expires += timedelta(days=1)
        repository.put(name, forged, repository.key(role))
        world.order("2.0.0", 2)
        assert world.device.settle() in ("tuf-untrusted", "too-large")
        assert world.device.version == "1.0.0"
        repository.show(honest)
        assert world.converges("2.0.0", 2)

    def test_a_withdrawn_bundle_is_not_installed_even_by_a_signed_order(self, world) -> None:
        path = world.publish("2.0.0")
        world.repository.withdraw(path)
        world.order("2.0.0", 2)
        assert world.device.settle() == "no-target"
        assert world.device.version == "1.0.0"


def test_two_root_keys_rotate_and_a_device_that_was_away_catches_up(world) -> None:
    for _ in range(3):
        world.repository.replace_keys("timestamp", "snapshot", "targets")
        world.repository.delegate_anew()
    world.publish("2.0.0")
    assert world.converges("2.0.0", 2)
