"""The TUF repository: what it takes, what it refuses, and that python-tuf's own client can follow it."""

import hashlib
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tuf.api.exceptions import DownloadHTTPError
from tuf.api.metadata import Key, Metadata, Targets
from tuf.ngclient import FetcherInterface, Updater

from fleet_contract import order
from fleet_server.errors import BadRequest, Conflict, NotFound, ServerError
from fleet_server.trust import keys
from fleet_server.trust import repository as repository_module
from fleet_server.trust.online import SNAPSHOT_LIFETIME, TIMESTAMP_EVERY, TIMESTAMP_LIFETIME
from fleet_server.trust.repository import TufRepository
from tests.fakes.server_repository import Founded
from tests.fakes.small_bundle import add_release, sign_release, small_bundle

NOW = datetime.now(UTC).replace(microsecond=0)


class Place(Founded):
    """A fresh repository, its key folders and a clock that a test can move."""

    def bundle(self, archive: bytes) -> Path:
        path = self.folder / "upload.bundle"
        path.write_bytes(archive)
        return path

    def release(self, archive: bytes, edit: Callable[[Targets], None] = lambda _: None, key: str = "releases") -> bytes:
        metadata = add_release(self.repository.metadata("releases.json"), archive)
        edit(metadata.signed)
        return sign_release(metadata, self.offline / f"{key}.pem")

    def publish(self, archive: bytes):
        return self.repository.publish(self.bundle(archive), self.release(archive))


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path, NOW)


class FolderFetcher(FetcherInterface):
    """Serves the repository to python-tuf as a device's want paths would."""

    def __init__(self, repository: TufRepository) -> None:
        self._repository = repository

    def _fetch(self, url: str) -> Iterator[bytes]:
        try:
            yield self._repository.file(url.removeprefix("fleet:/")).read_bytes()
        except NotFound as error:
            raise DownloadHTTPError(str(error), 404) from error


def updater(place: Place, cache: Path) -> Updater:
    cache.mkdir(exist_ok=True)
    return Updater(
        str(cache),
        "fleet:/metadata/",
        target_dir=str(cache),
        target_base_url="fleet:/targets/",
        fetcher=FolderFetcher(place.repository),
        bootstrap=place.repository.root_v1(),
    )


def test_published_bundle_is_what_a_tuf_client_downloads(place: Place, tmp_path: Path) -> None:
    archive = small_bundle()
    target = place.publish(archive)
    client = updater(place, tmp_path / "cache")
    info = client.get_targetinfo(target.path)
    assert Path(client.download_target(info)).read_bytes() == archive
    assert (target.sha256, target.length) == (hashlib.sha256(archive).hexdigest(), len(archive))


def test_timestamp_and_snapshot_name_the_very_bytes(place: Place) -> None:
    place.publish(small_bundle())
    place.now += TIMESTAMP_EVERY
    place.repository.refresh()
    snapshot = Metadata.from_bytes(place.repository.metadata("snapshot.json")).signed
    named = {**snapshot.meta, "snapshot.json": Metadata.from_bytes(place.repository.metadata("timestamp.json")).signed.snapshot_meta}
    assert {*named} == {"targets.json", "releases.json", "snapshot.json"}
    for name, file in named.items():
        data = place.repository.metadata(f"{file.version}.{name}")
        assert (file.length, file.hashes) == (len(data), {"sha256": hashlib.sha256(data).hexdigest()})


def test_client_follows_further_releases_and_refreshes(place: Place, tmp_path: Path) -> None:
    place.publish(small_bundle("1.0.0"))
    updater(place, tmp_path / "cache").refresh()
    target = place.publish(small_bundle("1.1.0"))
    place.now += TIMESTAMP_LIFETIME * 0.6
    place.repository.refresh()
    assert updater(place, tmp_path / "cache").get_targetinfo(target.path) is not None


def test_root_needs_two_of_three_and_lists_every_role(place: Place) -> None:
    root = Metadata.from_bytes(place.repository.root_v1())
    assert (len(root.signed.roles["root"].keyids), root.signed.roles["root"].threshold) == (3, 2)
    assert root.signed.consistent_snapshot
    root.signed.verify_delegate("root", root.signed_bytes, root.signatures)


def test_orders_key_is_delegated_by_targets(place: Place) -> None:
    targets: Targets = Metadata[Targets].from_bytes(place.repository.metadata("targets.json")).signed
    role = targets.delegations.roles["orders"]
    delegated: Key = targets.delegations.keys[role.keyids[0]]
    raw = keys.load(place.online / "orders.pem").public_key()
    assert role.paths == ["orders/*"]
    assert delegated.keyval["public"] == raw.public_bytes_raw().hex()
    assert len(order.keyid(raw)) == 64


def drop_first(targets: Targets) -> None:
    del targets.targets[min(targets.targets)]


def change_first(targets: Targets) -> None:
    targets.targets[min(targets.targets)].length += 1


def skip_version(targets: Targets) -> None:
    targets.version += 1


def repeat_version(targets: Targets) -> None:
    targets.version -= 1


def expire(targets: Targets) -> None:
    targets.expires = NOW - timedelta(days=1)


def wrong(attribute: str, value: object) -> Callable[[Targets], None]:
    return lambda targets: setattr(targets.targets["bundles/toy-2.0.0.bundle"], attribute, value)


def without_blocks(targets: Targets) -> None:
    targets.targets["bundles/toy-2.0.0.bundle"].unrecognized_fields["custom"].pop("edgefleet-blocks")


def other_task(targets: Targets) -> None:
    targets.targets["bundles/toy-2.0.0.bundle"].unrecognized_fields["custom"]["edgefleet"]["task"] = "other"


@pytest.mark.parametrize(
    ("edit", "key", "error", "field_name"),
    [
        pytest.param(lambda _: None, "targets", BadRequest, "releases", id="signed-by-another-key"),
        pytest.param(skip_version, "releases", Conflict, "version", id="version-skipped"),
        pytest.param(repeat_version, "releases", Conflict, "version", id="version-repeated-with-other-content"),
        pytest.param(drop_first, "releases", Conflict, "targets", id="earlier-target-removed"),
        pytest.param(change_first, "releases", Conflict, "targets", id="earlier-target-changed"),
        pytest.param(expire, "releases", BadRequest, "expires", id="expired"),
        pytest.param(wrong("length", 7), "releases", BadRequest, "bundle", id="wrong-length"),
        pytest.param(wrong("hashes", {"sha256": "0" * 64}), "releases", BadRequest, "bundle", id="wrong-sha256"),
        pytest.param(without_blocks, "releases", BadRequest, "custom", id="no-block-index"),
        pytest.param(other_task, "releases", BadRequest, "custom", id="custom-names-another-task"),
    ],
)
def test_bad_release_is_refused_and_changes_nothing(place: Place, edit, key: str, error: type[ServerError], field_name: str) -> None:
    place.publish(small_bundle("1.0.0"))
    before = place.repository.metadata("timestamp.json")
    archive = small_bundle("2.0.0")
    with pytest.raises(error) as caught:
        place.repository.publish(place.bundle(archive), place.release(archive, edit, key))
    assert caught.value.field == field_name
    assert place.repository.metadata("timestamp.json") == before


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"{", id="not-json"),
        pytest.param(b"[" * 100_000, id="nested-beyond-the-parser"),
        pytest.param(b"{}", id="no-signed-part"),
    ],
)
def test_releases_that_are_no_metadata_are_refused(place: Place, data: bytes) -> None:
    with pytest.raises(BadRequest):
        place.repository.publish(place.bundle(small_bundle()), data)


def test_root_metadata_instead_of_releases_is_refused(place: Place) -> None:
    with pytest.raises(BadRequest):
        place.repository.publish(place.bundle(small_bundle()), place.repository.root_v1())


def test_flipped_byte_in_the_bundle_is_refused(place: Place) -> None:
    archive = bytearray(small_bundle())
    releases = place.release(bytes(archive))
    archive[len(archive) // 2] ^= 1
    with pytest.raises(BadRequest) as caught:
        place.repository.publish(place.bundle(bytes(archive)), releases)
    assert caught.value.code == "bad-bundle"


def test_publishing_the_same_again_changes_nothing(place: Place) -> None:
    archive = small_bundle()
    releases = place.release(archive)
    first = place.repository.publish(place.bundle(archive), releases)
    before = place.repository.metadata("timestamp.json")
    assert place.repository.publish(place.bundle(archive), releases) == first
    assert place.repository.metadata("timestamp.json") == before


@pytest.mark.parametrize("step", range(4))
def test_crash_between_any_two_writes_leaves_the_old_repository_and_a_way_on(place: Place, monkeypatch, tmp_path: Path, step: int) -> None:
    archive, writes = small_bundle(), iter(range(4))

    def power_fails(real):
        def write(*arguments) -> None:
            if next(writes) == step:
                raise KeyboardInterrupt
            real(*arguments)

        return write

    with monkeypatch.context() as patch:
        patch.setattr(repository_module, "copy_atomic", power_fails(repository_module.copy_atomic))
        patch.setattr(repository_module, "write_atomic", power_fails(repository_module.write_atomic))
        with pytest.raises(KeyboardInterrupt):
            place.publish(archive)
    place.reopen()
    assert updater(place, tmp_path / "cache").get_targetinfo("bundles/toy-1.0.0.bundle") is None
    target = place.publish(archive)
    assert updater(place, tmp_path / "cache").get_targetinfo(target.path) is not None


def test_refresh_leaves_young_metadata_alone(place: Place) -> None:
    before = place.repository.metadata("timestamp.json")
    place.repository.refresh()
    assert place.repository.metadata("timestamp.json") == before


@pytest.mark.parametrize(
    ("age", "timestamp_version", "snapshot_version"),
    [
        pytest.param(TIMESTAMP_EVERY, 2, 1, id="old-timestamp"),
        pytest.param(SNAPSHOT_LIFETIME * 0.6, 2, 2, id="old-snapshot"),
    ],
)
def test_refresh_signs_anew_what_grows_old(place: Place, age: timedelta, timestamp_version: int, snapshot_version: int) -> None:
    place.now += age
    place.repository.refresh()
    timestamp = Metadata.from_bytes(place.repository.metadata("timestamp.json")).signed
    assert (timestamp.version, timestamp.snapshot_meta.version) == (timestamp_version, snapshot_version)
    assert timestamp.expires > place.now


@pytest.mark.parametrize(
    "path",
    [
        "metadata/../../online/snapshot.pem",
        "metadata/2.root.json",
        "metadata/.hidden",
        "targets/bundles/none.bundle",
        "targets",
        "metadata",
        "/etc/passwd",
        "targets/bundles",
        "other/1.root.json",
        "a" * 300,
        "",
    ],
)
def test_unservable_path_is_not_found(place: Place, path: str) -> None:
    with pytest.raises(NotFound):
        place.repository.file(path)


@pytest.mark.parametrize(
    "path",
    ["metadata/1.root.json", "metadata/timestamp.json", "metadata/1.snapshot.json", "metadata/1.targets.json", "metadata/1.releases.json"],
)
def test_first_metadata_is_servable(place: Place, path: str) -> None:
    assert place.repository.file(path).is_file()


def test_key_files_are_for_their_owner_alone_and_never_overwritten(place: Place) -> None:
    files = [*place.offline.glob("*.pem"), *place.online.glob("*.pem")]
    assert {file.stat().st_mode & 0o777 for file in files} == {0o600}
    with pytest.raises(Conflict):
        place.keys.create("testing")
