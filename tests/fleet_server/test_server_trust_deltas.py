"""Deltas in the repository: taken when they are signed, listed, and make the bundle from a released one; refused whole otherwise."""

import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tuf.api.metadata import Metadata, Targets

from fleet_contract import blocks, delta
from fleet_contract.bundle import Bundle
from fleet_contract.release import release_of
from fleet_server.errors import BadRequest, Conflict, ServerError
from fleet_server.trust import release
from model_tools.delta.making import make
from model_tools.keys.passphrases import unencrypted
from model_tools.sign.releases import sign_releases
from tests.fakes.server_repository import Founded
from tests.fakes.small_bundle import small_bundle

NOW = datetime.now(UTC).replace(microsecond=0)
WEIGHTS = random.Random(5).randbytes(60_000)
FIRST, SECOND, THIRD = (small_bundle(f"{n}.0.0", model=WEIGHTS + bytes([n])) for n in (1, 2, 3))


class Place(Founded):
    """A repository that has released FIRST."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.publish(FIRST)

    def sign(self, archive: bytes, deltas: list[bytes], edit: Callable[[Targets], None] = lambda _: None) -> bytes:
        key = self.store.load("releases").signer(unencrypted)
        signed = sign_releases(self.repository.metadata("releases.json"), archive, key, self.now + timedelta(days=99), deltas)
        metadata = Metadata[Targets].from_bytes(signed)
        edit(metadata.signed)
        metadata.sign(key)
        return metadata.to_bytes()

    def publish(self, archive: bytes, deltas: list[bytes] = [], releases: bytes | None = None):  # noqa: B006 - never changed
        files = [self.folder / f"delta-{number}" for number in range(len(deltas))]
        for file, wire in zip(files, deltas, strict=True):
            file.write_bytes(wire)
        (self.folder / "upload").write_bytes(archive)
        return self.repository.publish(self.folder / "upload", releases or self.sign(archive, deltas), files)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path, NOW)


def between(base: bytes, target: bytes) -> bytes:
    return make(base, target, lambda _share, _message: None)


def test_a_delta_is_served_beside_its_bundle(place: Place) -> None:
    wire = between(FIRST, SECOND)
    target = place.publish(SECOND, [wire])
    signed = Metadata[Targets].from_bytes(place.repository.metadata("releases.json")).signed.targets
    (told,) = release_of(signed[target.path].custom).deltas
    folder, _, name = told.path.rpartition("/")
    assert place.repository.file(f"targets/{folder}/{signed[told.path].hashes['sha256']}.{name}").read_bytes() == wire
    assert blocks.from_custom(signed[told.path].custom) == blocks.index_of(wire)


def test_deltas_from_several_bases_go_together(place: Place) -> None:
    place.publish(SECOND)
    place.publish(THIRD, [between(SECOND, THIRD), between(FIRST, THIRD)])
    signed = Metadata[Targets].from_bytes(place.repository.metadata("releases.json")).signed.targets
    assert [told.base for told in release_of(signed["bundles/toy-3.0.0.bundle"].custom).deltas] == [
        Bundle(SECOND).sha256,
        Bundle(FIRST).sha256,
    ]
    assert len(signed) == 5


def test_the_very_same_release_is_taken_again(place: Place) -> None:
    wire = between(FIRST, SECOND)
    releases = place.sign(SECOND, [wire])
    first = place.publish(SECOND, [wire], releases)
    assert place.publish(SECOND, [wire], releases) == first


def test_a_later_release_keeps_the_deltas_before_it(place: Place) -> None:
    place.publish(SECOND, [between(FIRST, SECOND)])

    def drop(signed: Targets) -> None:
        del signed.targets[next(path for path in signed.targets if path.endswith(".delta"))]

    with pytest.raises(Conflict):
        place.publish(THIRD, [], place.sign(THIRD, [], drop))


def reheaded(wire: bytes, **changes: object) -> bytes:
    head = delta.read_header(wire)
    size = len(bytes(head))
    return bytes(delta.Header(**{"base": head.base, "result": head.result, "length": head.length, **changes})) + wire[size:]


def unlist(signed: Targets) -> None:
    del signed.targets["bundles/toy-2.0.0.bundle"].unrecognized_fields["custom"]["edgefleet"]["deltas"]


def rename(signed: Targets) -> None:
    (path,) = (path for path in signed.targets if path.endswith(".delta"))
    signed.targets["bundles/elsewhere.delta"] = signed.targets.pop(path)


def relength(signed: Targets) -> None:
    next(target for path, target in signed.targets.items() if path.endswith(".delta")).length += 1


def reindex(signed: Targets) -> None:
    target = next(target for path, target in signed.targets.items() if path.endswith(".delta"))
    target.unrecognized_fields["custom"] = blocks.to_custom(blocks.index_of(b"another"))


GOOD = between(FIRST, SECOND)


@pytest.mark.parametrize(
    ("sent", "signed", "edit", "field"),
    [
        pytest.param([], [GOOD], lambda _: None, "targets", id="signed and not uploaded"),
        pytest.param([GOOD], [], lambda _: None, "targets", id="uploaded and not signed"),
        pytest.param([GOOD[:-9]], [GOOD], lambda _: None, "delta", id="cut short"),
        pytest.param([b"no delta"], [GOOD], lambda _: None, "delta", id="no delta"),
        pytest.param([reheaded(GOOD, base="ab" * 32)], [GOOD], lambda _: None, "delta", id="from a bundle that is not released"),
        pytest.param([reheaded(GOOD, result="ab" * 32)], [GOOD], lambda _: None, "delta", id="of another bundle"),
        pytest.param([reheaded(GOOD, length=2**40)], [GOOD], lambda _: None, "delta", id="of a giant"),
        pytest.param([GOOD], [GOOD], unlist, "custom", id="the bundle does not list it"),
        pytest.param([GOOD], [GOOD], rename, "targets", id="under another name"),
        pytest.param([GOOD], [GOOD], relength, "bundle", id="of another length"),
        pytest.param([GOOD], [GOOD], reindex, "custom", id="with another block index"),
    ],
)
def test_a_delta_that_does_not_hold_refuses_the_release(sent, signed, edit, field: str, place: Place) -> None:
    before = place.repository.metadata("releases.json"), sorted((place.folder / "tuf").rglob("*"))
    with pytest.raises(BadRequest) as refused:
        place.publish(SECOND, sent, place.sign(SECOND, signed, edit))
    assert refused.value.field == field
    assert (place.repository.metadata("releases.json"), sorted((place.folder / "tuf").rglob("*"))) == before


def test_a_delta_is_applied_before_it_is_believed(tmp_path: Path) -> None:
    """A well-formed delta that makes other bytes: its own header contradicts it."""
    wrong = reheaded(between(FIRST, THIRD), result=Bundle(SECOND).sha256)
    (tmp_path / "first").write_bytes(FIRST)
    (tmp_path / "second").write_bytes(SECOND)
    (tmp_path / "delta").write_bytes(wrong)
    with pytest.raises(ServerError) as refused:
        release.check_delta(tmp_path / "delta", release.check_bundle(tmp_path / "second"), {Bundle(FIRST).sha256: tmp_path / "first"})
    assert (refused.value.code, refused.value.field) == ("bad-delta", "delta")
