"""Installing what the key holders have signed: what is refused, that it survives the power going, and how online keys change."""

import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tuf.api.metadata import Metadata

from fleet_contract.release import SIGNED_AT
from fleet_server.domain.expiry import WARN_BEFORE, renewals
from fleet_server.errors import BadRequest, Conflict, NotFound, ServerError
from fleet_server.trust.keys import OnlineKeys
from fleet_server.trust.online import TIMESTAMP_EVERY
from fleet_server.trust.orders import Ed25519OrderSigner
from fleet_server.trust.repository import TufRepository
from model_tools.keys import changing
from model_tools.keys.chain import Draft
from tests.fakes.server_repository import LIFETIME, Founded
from tests.fakes.small_bundle import small_bundle, target_file

NOW = datetime.now(UTC).replace(microsecond=0)


@pytest.fixture
def place(tmp_path: Path) -> Founded:
    return Founded(tmp_path, NOW)


def verified(place: Founded) -> dict[str, int]:
    """Every role's version, once all of it holds as a device checks it."""
    place.chain().check()
    found = {role: Metadata.from_bytes(place.repository.metadata(f"{role}.json")) for role in ("root", "targets", "snapshot", "timestamp")}
    root = found["root"].signed
    for role in ("targets", "snapshot", "timestamp"):
        root.verify_delegate(role, found[role].signed_bytes, found[role].signatures)
    return {role: one.signed.version for role, one in found.items()}


def test_the_first_installation_begins_everything(place: Founded) -> None:
    assert verified(place) == {"root": 1, "targets": 1, "snapshot": 1, "timestamp": 1}


def test_before_it_there_is_nothing_to_open(tmp_path: Path) -> None:
    OnlineKeys(tmp_path / "online").create("testing")
    with pytest.raises(NotFound) as refused:
        TufRepository(tmp_path / "tuf", tmp_path / "online", lambda: NOW).opened()
    assert "ceremony" in str(refused.value)


def test_installing_the_same_again_changes_nothing(place: Founded) -> None:
    new = place.rotate("targets")
    place.install(new)
    before = place.repository.metadata("timestamp.json")
    assert place.repository.install(new).files == {}
    assert place.repository.metadata("timestamp.json") == before


def test_roots_that_are_there_already_may_come_again(place: Founded) -> None:
    first = place.rotate("root", "root-1")
    place.install(first)
    second = place.rotate("root", "root-2")
    place.repository.install({**first, **second})
    assert verified(place)["root"] == 3


@pytest.mark.parametrize("role", ["root", "targets", "releases", "snapshot", "timestamp", "orders"])
def test_after_every_rotation_all_of_it_holds(place: Founded, role: str) -> None:
    change = place.repository.install(place.rotate(role, "root-1" if role == "root" else None))
    verified(place)
    assert set(change.revoked) == {role}


def unsigned(draft: Draft) -> None:
    draft.root.signatures.clear()


def no_consistent_snapshot(draft: Draft) -> None:
    draft.root.signed.consistent_snapshot = False


def skip_version(draft: Draft) -> None:
    draft.root.signed.version += 1


def expire(draft: Draft) -> None:
    draft.root.signed.expires = NOW - timedelta(days=1)


def other_timestamp_key(draft: Draft) -> None:
    root = draft.root.signed
    root.roles["timestamp"].keyids = root.roles["targets"].keyids


def other_targets_key(draft: Draft) -> None:
    root = draft.root.signed
    root.roles["targets"].keyids = root.roles["root"].keyids[:1]


@pytest.mark.parametrize(
    ("edit", "signers", "error", "field"),
    [
        pytest.param(lambda _: None, ["root-1"], BadRequest, "2.root.json", id="one signature of two"),
        pytest.param(lambda _: None, ["root-1", "targets"], BadRequest, "2.root.json", id="one of another role's key"),
        pytest.param(skip_version, ["root-1", "root-2"], Conflict, "3.root.json", id="a gap in the versions"),
        pytest.param(expire, ["root-1", "root-2"], BadRequest, "expires", id="expired"),
        pytest.param(no_consistent_snapshot, ["root-1", "root-2"], BadRequest, "consistent_snapshot", id="no consistent snapshots"),
        pytest.param(other_timestamp_key, ["root-1", "root-2"], BadRequest, "timestamp", id="a timestamp key that is not the server's"),
        pytest.param(other_targets_key, ["root-1", "root-2"], BadRequest, "1.targets.json", id="targets that its key did not sign"),
    ],
)
def test_a_root_that_would_leave_devices_stuck_is_refused(place: Founded, edit, signers: list[str], error, field: str) -> None:
    before = place.repository.metadata("timestamp.json")
    with pytest.raises(error) as refused:
        place.repository.install(place.edited(edit, signers))
    assert refused.value.field == field
    assert (place.repository.metadata("timestamp.json"), verified(place)["root"]) == (before, 1)


def delegate_more(draft: Draft) -> None:
    draft.targets.signed.delegations.roles["releases"].paths = ["*"]


def no_orders(draft: Draft) -> None:
    del draft.targets.signed.delegations.roles["orders"]


@pytest.mark.parametrize(
    ("edit", "field"),
    [
        pytest.param(delegate_more, "delegations", id="releases for more than bundles"),
        pytest.param(no_orders, "delegations", id="nobody orders"),
    ],
)
def test_targets_of_another_shape_are_refused(place: Founded, edit, field: str) -> None:
    with pytest.raises(BadRequest) as refused:
        place.repository.install(place.edited(edit, ["targets"], ["targets"]))
    assert refused.value.field == field


@pytest.mark.parametrize(
    ("files", "field"),
    [
        pytest.param({}, "files", id="none"),
        pytest.param({"2.snapshot.json": b"{}"}, "files", id="an online role"),
        pytest.param({"../2.root.json": b"{}"}, "files", id="a path"),
        pytest.param({"2.root.json": b"{"}, "2.root.json", id="no JSON"),
        pytest.param({"2.root.json": b"[" * 100_000}, "2.root.json", id="nested beyond the parser"),
        pytest.param({"2.root.json": b" " * 6_000_000}, "2.root.json", id="too long"),
    ],
)
def test_what_is_no_metadata_is_refused(place: Founded, files: dict[str, bytes], field: str) -> None:
    with pytest.raises(ServerError) as refused:
        place.repository.install(files)
    assert refused.value.field == field


def test_metadata_of_another_version_than_its_name_is_refused(place: Founded) -> None:
    with pytest.raises(BadRequest):
        place.repository.install({"2.root.json": place.repository.metadata("1.root.json")})


def test_older_targets_than_the_installed_are_refused(place: Founded) -> None:
    first = {"1.targets.json": place.repository.metadata("1.targets.json")}
    place.install(place.rotate("releases"))
    with pytest.raises(Conflict):
        place.repository.install(first)


def test_a_bundle_does_not_come_in_this_way(place: Founded) -> None:
    def add(draft: Draft) -> None:
        target = target_file(small_bundle())
        draft.releases.signed.targets[target.path] = target

    with pytest.raises(BadRequest) as refused:
        place.repository.install(place.edited(add, ["releases"], ["releases"]))
    assert refused.value.field == "targets"


class PowerGoes(BaseException): ...


def cut(monkeypatch, step: int) -> Callable[[], int]:
    """The power goes at the `step`-th change to the disk; returns how many there were."""
    seen = 0

    def failing(real):
        def change(*arguments, **options):
            nonlocal seen
            seen += 1
            if seen == step:
                raise PowerGoes
            return real(*arguments, **options)

        return change

    for name in ("replace", "rename", "rmdir", "mkdir"):
        monkeypatch.setattr(os, name, failing(getattr(os, name)))
    return lambda: seen


def everything(place: Founded) -> dict[str, bytes]:
    """A rotation that touches all: root, targets, releases, and every online key."""
    before = place.chain()
    for role in ("snapshot", "timestamp", "orders"):
        place.keys.begin_rotation(role, "testing")
    online, expires = place.online_json(), place.now + LIFETIME
    files: dict[str, bytes] = {}
    for role in ("snapshot", "timestamp", "orders", "targets", "releases"):
        if role in ("snapshot", "timestamp", "orders"):
            draft = changing.rotate_online(before, role, online, expires)
        else:
            draft = changing.rotate_offline(before, role, None, place.make(f"{role}-2"), None, expires)
        files |= place.signed(draft, before)
        before = draft.after(before)
    return files


def test_cut_off_anywhere_it_is_all_there_or_nothing(tmp_path: Path, monkeypatch) -> None:
    """Between any two changes to the disk: afterwards everything holds, it can be gone on with, and no key is lost."""
    step, outcomes, place = 0, set(), Founded(tmp_path / "begun", NOW)
    files = everything(place)
    while True:
        step, place.folder = step + 1, tmp_path / "begun"
        place.copied(tmp_path / str(step))
        with monkeypatch.context() as patch:
            changes = cut(patch, step)
            try:
                place.repository.install(files)
            except PowerGoes:
                pass
            if changes() < step:
                break
        place.reopen()
        place.repository.opened()
        outcomes.add(verified(place)["root"])
        place.repository.install(files)
        assert verified(place)["root"] == 4
        assert not list(place.online.glob("*.next.pem"))
    assert outcomes == {1, 4}
    assert step > 10


def test_a_running_server_goes_on_with_what_a_killed_command_began(place: Founded, monkeypatch) -> None:
    running = TufRepository(place.folder / "tuf", place.online, lambda: place.now)
    files = place.rotate("timestamp")
    with monkeypatch.context() as patch:
        cut(patch, 6)
        with pytest.raises(PowerGoes):
            place.repository.install(files)
    running.refresh()
    assert verified(place)["root"] == 2


def test_the_old_key_signs_until_the_new_one_is_installed(place: Founded) -> None:
    signer = Ed25519OrderSigner(place.keys, lambda: place.repository.trusted("orders"))
    before = signer.key().keyid
    files = place.rotate("orders")
    assert signer.key().keyid == before
    place.install(files)
    assert signer.key().keyid != before
    assert {path.name for path in place.online.iterdir()} == {"orders.pem", "snapshot.pem", "timestamp.pem", "online.json"}


def test_one_rotation_of_a_key_at_a_time(place: Founded) -> None:
    place.keys.begin_rotation("orders", "testing")
    first = place.online_json()
    with pytest.raises(Conflict):
        place.keys.begin_rotation("orders", "testing")
    assert place.online_json() == first


def test_only_online_keys_are_made_here(place: Founded) -> None:
    with pytest.raises(BadRequest):
        place.keys.begin_rotation("root", "testing")


def test_the_timestamp_says_when_it_was_signed_and_is_never_much_older(place: Founded) -> None:
    def signed_at() -> str:
        return Metadata.from_bytes(place.repository.metadata("timestamp.json")).signed.unrecognized_fields[SIGNED_AT]

    assert signed_at() == NOW.strftime("%Y-%m-%dT%H:%M:%SZ")
    place.now += TIMESTAMP_EVERY - timedelta(seconds=1)
    place.repository.refresh()
    assert signed_at() == NOW.strftime("%Y-%m-%dT%H:%M:%SZ")
    place.now += timedelta(seconds=1)
    place.repository.refresh()
    assert signed_at() == place.now.strftime("%Y-%m-%dT%H:%M:%SZ")


def test_nothing_is_signed_by_a_clock_by_which_root_has_expired(place: Founded) -> None:
    """A device would take the time that a timestamp carries for true."""
    before = place.repository.metadata("timestamp.json")
    place.now += timedelta(days=3_650)
    place.repository.refresh()
    assert place.repository.metadata("timestamp.json") == before


@pytest.mark.parametrize(
    ("left", "due", "expired"),
    [
        pytest.param(WARN_BEFORE, False, False, id="long"),
        pytest.param(WARN_BEFORE - timedelta(seconds=1), True, False, id="soon"),
        pytest.param(timedelta(0), True, True, id="over"),
    ],
)
def test_people_are_called_in_time(left: timedelta, due: bool, expired: bool) -> None:
    found = renewals({"root": NOW + left, "targets": NOW + timedelta(days=999), "timestamp": NOW}, NOW)
    assert [(one.role, one.expired) for one in found] == ([("root", expired)] if due else [])
