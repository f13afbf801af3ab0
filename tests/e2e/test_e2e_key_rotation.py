"""A rehearsal: real key holders, the real repository and the device's own client, through theft, rotation and a long time offline."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Metadata, MetaFile, Targets

from edge_agent.delivery.ports import FileFetcher
from edge_agent.errors import Missing, Retry
from edge_agent.trust.client import Trust
from edge_agent.trust.time import TrustedTime
from fleet_contract.errors import OrderForgery
from fleet_contract.order import open_by
from fleet_server.errors import NotFound
from fleet_server.trust import keys
from fleet_server.trust.orders import Ed25519OrderSigner
from fleet_server.trust.repository import TufRepository
from model_tools.keys import changing
from tests.fakes.agent_repository import MemoryRepository
from tests.fakes.agent_time import WallClock
from tests.fakes.server_repository import LIFETIME, Founded
from tests.fakes.small_bundle import add_release, sign_release, small_bundle, target_file

NOW = datetime.now(UTC).replace(microsecond=0)
BUILT = NOW - timedelta(days=30)
FAR = 2**31


class Served(FileFetcher):
    """The repository's files; `forged` lie over them."""

    def __init__(self, repository: Callable[[], TufRepository]) -> None:
        self._repository = repository
        self.forged: dict[str, bytes] = {}

    def read(self, path: str, max_bytes: int) -> bytes:
        if path in self.forged:
            return self.forged[path]
        try:
            return self._repository().file(path).read_bytes()
        except NotFound as error:
            raise Missing(str(error)) from error


@dataclass
class Rehearsal:
    """`stolen` is what a thief copied before anything was rotated: signers by role."""

    place: Founded
    served: Served
    device: Trust
    stolen: dict[str, CryptoSigner]

    def rotate(self, role: str, key: str | None = None) -> None:
        self.place.install(self.place.rotate(role, key))

    def forge(self, name: str, role: str, edit: Callable[[Metadata], object], *, key: CryptoSigner | None = None) -> None:
        """The newest metadata called `name`, a version on, changed, and signed with the thief's key of `role`."""
        metadata = Metadata.from_bytes(self.place.repository.metadata(f"{name}.json"))
        metadata.signed.version += 1
        edit(metadata)
        metadata.sign(key or self.stolen[role])
        versioned = "timestamp.json" if name == "timestamp" else f"{metadata.signed.version}.{name}.json"
        self.served.forged[f"metadata/{versioned}"] = metadata.to_bytes()

    def lead_to(self, **versions: int) -> None:
        """Snapshot and timestamp as a thief with the server's present keys signs them, naming these versions."""
        online = {role: CryptoSigner(keys.load(self.place.online / f"{role}.pem")) for role in ("snapshot", "timestamp")}

        def name_them(metadata: Metadata) -> None:
            for role, version in versions.items():
                metadata.signed.meta[f"{role}.json"] = MetaFile(version)

        self.forge("snapshot", "snapshot", name_them, key=online["snapshot"])
        following = Metadata.from_bytes(self.place.repository.metadata("snapshot.json")).signed.version + 1
        self.forge("timestamp", "timestamp", lambda one: setattr(one.signed, "snapshot_meta", MetaFile(following)), key=online["timestamp"])


@pytest.fixture
def rehearsal(tmp_path: Path) -> Rehearsal:
    place = Founded(tmp_path, NOW)
    publish(place, "1.0.0")
    served = Served(lambda: place.repository)
    clock = WallClock(NOW)
    device = Trust(tmp_path / "device", place.repository.root_v1(), served, TrustedTime(tmp_path / "time", clock, BUILT))
    device.refresh()
    stolen = {role: CryptoSigner(keys.load(place.online / f"{role}.pem")) for role in ("snapshot", "timestamp", "orders")}
    stolen |= {role: CryptoSigner(keys.load(place.offline / f"{role}.pem")) for role in ("targets", "releases", "root-2")}
    return Rehearsal(place, served, device, stolen)


def publish(place: Founded, version: str, key: str = "releases") -> str:
    archive, path = small_bundle(version), place.folder / "upload.bundle"
    path.write_bytes(archive)
    signed = sign_release(add_release(place.repository.metadata("releases.json"), archive), place.offline / f"{key}.pem")
    return place.repository.publish(path, signed).path


def order_by(key: Ed25519PrivateKey) -> bytes:
    memory = MemoryRepository()
    return memory.order(small_bundle(), key=key)


def test_a_device_that_slept_through_three_roots_catches_up(rehearsal: Rehearsal) -> None:
    rehearsal.rotate("root", "root-2")
    rehearsal.rotate("targets")
    rehearsal.rotate("timestamp")
    rehearsal.rotate("orders")
    released = publish(rehearsal.place, "2.0.0")
    signer = Ed25519OrderSigner(rehearsal.place.keys, lambda: rehearsal.place.repository.trusted("orders"))
    rehearsal.device.refresh()
    assert Metadata.from_bytes(rehearsal.place.repository.metadata("root.json")).signed.version == 4
    assert rehearsal.device.target(released).path == released
    assert [*rehearsal.device.orders_keys()] == [signer.key().keyid]


def test_after_the_theft_of_one_root_key_the_thief_makes_no_root(rehearsal: Rehearsal) -> None:
    rehearsal.rotate("root", "root-2")
    rehearsal.device.refresh()
    rehearsal.forge("root", "root-2", lambda metadata: metadata.signed.roles["root"].keyids.append("0" * 64))
    with pytest.raises(Retry) as refused:
        rehearsal.device.refresh()
    assert refused.value.code == "tuf-untrusted"


def evil_target(metadata: Metadata[Targets]) -> None:
    target = target_file(small_bundle("6.6.6"))
    metadata.signed.targets[target.path] = target


def forge_timestamp(rehearsal: Rehearsal) -> None:
    rehearsal.forge("timestamp", "timestamp", lambda _: None)


def forge_snapshot(rehearsal: Rehearsal) -> None:
    rehearsal.lead_to()
    rehearsal.forge("snapshot", "snapshot", lambda _: None)


def forge_targets(rehearsal: Rehearsal) -> None:
    rehearsal.forge("targets", "targets", evil_target)
    rehearsal.lead_to(targets=rehearsal.place.chain().targets.signed.version + 1)


def forge_releases(rehearsal: Rehearsal) -> None:
    rehearsal.forge("releases", "releases", evil_target)
    rehearsal.lead_to(releases=rehearsal.place.chain().releases.signed.version + 1)


THEFTS = {"timestamp": forge_timestamp, "snapshot": forge_snapshot, "targets": forge_targets, "releases": forge_releases}


@pytest.mark.parametrize(("role", "forge"), THEFTS.items(), ids=THEFTS)
def test_what_a_revoked_key_signs_is_refused(rehearsal: Rehearsal, role: str, forge: Callable[[Rehearsal], None]) -> None:
    rehearsal.rotate(role)
    rehearsal.device.refresh()
    forge(rehearsal)
    with pytest.raises(Retry) as refused:
        rehearsal.device.refresh()
        rehearsal.device.target("bundles/toy-6.6.6.bundle")
    assert refused.value.code == "tuf-untrusted"


@pytest.mark.parametrize(("role", "forge"), THEFTS.items(), ids=THEFTS)
def test_before_the_rotation_the_thief_was_believed(rehearsal: Rehearsal, role: str, forge: Callable[[Rehearsal], None]) -> None:
    """Without this the refusals above could have another cause."""
    forge(rehearsal)
    rehearsal.device.refresh()
    if role in ("targets", "releases"):
        assert rehearsal.device.find("bundles/toy-6.6.6.bundle") is not None


def test_an_order_of_a_revoked_key_is_forged(rehearsal: Rehearsal) -> None:
    thief = keys.load(rehearsal.place.online / "orders.pem")
    open_by(order_by(thief), rehearsal.device.orders_keys())
    rehearsal.rotate("orders")
    rehearsal.device.refresh()
    with pytest.raises(OrderForgery):
        open_by(order_by(thief), rehearsal.device.orders_keys())
    successor = keys.load(rehearsal.place.online / "orders.pem")
    open_by(order_by(successor), rehearsal.device.orders_keys())


def far_timestamp(rehearsal: Rehearsal) -> None:
    rehearsal.forge("timestamp", "timestamp", lambda metadata: setattr(metadata.signed, "version", FAR))


def far_snapshot(rehearsal: Rehearsal) -> None:
    rehearsal.forge("snapshot", "snapshot", lambda metadata: setattr(metadata.signed, "version", FAR))
    rehearsal.forge("timestamp", "timestamp", lambda metadata: setattr(metadata.signed, "snapshot_meta", MetaFile(FAR)))


@pytest.mark.parametrize(
    ("forge", "roles"),
    [pytest.param(far_timestamp, ["timestamp"], id="timestamp"), pytest.param(far_snapshot, ["snapshot", "timestamp"], id="both")],
)
def test_fast_forwarded_versions_are_forgotten_with_the_key_that_signed_them(rehearsal: Rehearsal, forge, roles: list[str]) -> None:
    forge(rehearsal)
    rehearsal.device.refresh()
    rehearsal.served.forged.clear()
    with pytest.raises(Retry) as stuck:
        rehearsal.device.refresh()
    assert stuck.value.code == "tuf-rollback"
    for role in roles:
        rehearsal.rotate(role)
    released = publish(rehearsal.place, "2.0.0")
    rehearsal.device.refresh()
    assert rehearsal.device.target(released).path == released


def test_a_bundle_that_a_thief_released_is_taken_back_with_his_key(rehearsal: Rehearsal) -> None:
    evil = publish(rehearsal.place, "6.6.6")
    assert rehearsal.device.find(evil) is None
    rehearsal.device.refresh()
    assert rehearsal.device.find(evil) is not None
    place, before = rehearsal.place, rehearsal.place.chain()
    new = place.make("releases-2")
    draft = changing.rotate_offline(before, "releases", None, new, None, place.now + LIFETIME)
    del draft.releases.signed.targets[evil]
    place.install(place.signed(draft, before))
    rehearsal.device.refresh()
    assert rehearsal.device.find(evil) is None
    good = publish(place, "7.0.0", "releases-2")
    rehearsal.device.refresh()
    assert rehearsal.device.target(good).path == good
