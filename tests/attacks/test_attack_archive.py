"""A signed bundle whose archive is a trap: the releases key was stolen, or its holder's machine. Read in place, it is opened by nobody."""

import io
import zipfile
from collections.abc import Callable

import pytest
from tuf.api.metadata import TargetFile

from fleet_contract import blocks
from fleet_contract.bundle import target_path
from tests.fakes.hostile_server import digest
from tests.fakes.small_bundle import small_bundle

GOOD = small_bundle("2.0.0", model=b"m" * 9_000)


def _rewritten(change: Callable[[zipfile.ZipFile, zipfile.ZipInfo, bytes], None]) -> bytes:
    """The same archive, each entry written by `change`."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(GOOD)) as old, zipfile.ZipFile(out, "w") as new:
        for info in old.infolist():
            change(new, info, old.read(info))
    return out.getvalue()


def _extra(name: str) -> bytes:
    out = io.BytesIO(GOOD)
    with zipfile.ZipFile(out, "a") as archive:
        archive.writestr(zipfile.ZipInfo(name), b"evil")
    return out.getvalue()


def _duplicate() -> bytes:
    out = io.BytesIO(GOOD)
    with zipfile.ZipFile(out, "a") as archive:
        archive.writestr(zipfile.ZipInfo("model.onnx"), b"evil")
    return out.getvalue()


def _compressed() -> bytes:
    return _rewritten(lambda new, info, data: new.writestr(info.filename, data, zipfile.ZIP_DEFLATED))


def _bomb() -> bytes:
    out = io.BytesIO(GOOD)
    with zipfile.ZipFile(out, "a") as archive:
        archive.writestr("zeros", bytes(64 << 20), zipfile.ZIP_DEFLATED, 9)
    return out.getvalue()


def _encrypted() -> bytes:
    """The flag in the local header of the first entry and in the central directory."""
    data = bytearray(GOOD)
    central = data.index(b"PK\x01\x02")
    data[6] |= 1
    data[central + 8] |= 1
    return bytes(data)


def _symlink() -> bytes:
    link = zipfile.ZipInfo("link")
    link.external_attr = 0o120777 << 16
    out = io.BytesIO(GOOD)
    with zipfile.ZipFile(out, "a") as archive:
        archive.writestr(link, b"/etc/passwd")
    return out.getvalue()


def _two_directories() -> bytes:
    """A whole archive in front of another: which is read depends on the reader."""
    return small_bundle("7.0.0", model=b"evil") + GOOD


TRAPS = [
    pytest.param(lambda: _extra("../evil"), id="an entry that climbs"),
    pytest.param(lambda: _extra("/etc/cron.d/evil"), id="an absolute entry"),
    pytest.param(lambda: _extra("a/../../evil"), id="an entry that climbs from within"),
    pytest.param(lambda: _extra("a\\..\\evil"), id="an entry that climbs elsewhere"),
    pytest.param(lambda: _extra("evil"), id="an entry that the manifest does not name"),
    pytest.param(_duplicate, id="a duplicate entry", marks=pytest.mark.filterwarnings("ignore:Duplicate name")),
    pytest.param(_compressed, id="compressed entries"),
    pytest.param(_bomb, id="a compressed bomb"),
    pytest.param(_encrypted, id="an encrypted entry"),
    pytest.param(_symlink, id="a symbolic link"),
    pytest.param(lambda: GOOD + b"trailing", id="trailing data"),
    pytest.param(lambda: b"#!/bin/sh\n" + GOOD, id="leading data"),
    pytest.param(_two_directories, id="an archive before the archive"),
    pytest.param(lambda: GOOD[:-30], id="a torn directory"),
    pytest.param(lambda: b"", id="nothing"),
]


@pytest.mark.parametrize("make", TRAPS)
def test_a_trap_is_refused_before_a_model_is_opened(world, make: Callable[[], bytes]) -> None:
    trap = make()
    path = _publish(world, trap)
    before = {*world.device.folder.parent.rglob("*")}
    world.device.inbox.put(_order(world, trap, path))
    world.device.settle()
    assert world.device.codes("update.rejected") == ["bad-bundle"]
    assert world.device.host.proven == ["1.0.0"]
    assert world.device.version == "1.0.0"
    new = {str(found.relative_to(world.device.folder)) for found in {*world.device.folder.parent.rglob("*")} - before}
    assert new <= {"slots/b", "slots/b/bundle", "slots/b/part"}
    world.publish("3.0.0")
    assert world.converges("3.0.0", 3)


def _publish(world, trap: bytes) -> str:
    """Signed as it is, by the stolen releases key: no honest tool would."""
    repository = world.repository
    path = target_path("toy", "2.0.0")
    custom = {"custom": blocks.to_custom(blocks.index_of(trap))}
    repository._releases.targets[path] = TargetFile(len(trap), {"sha256": digest(trap)}, path, custom)
    repository._releases.version += 1
    repository.files[f"targets/bundles/{digest(trap)}.{path.removeprefix('bundles/')}"] = trap
    repository.commit()
    return path


def _order(world, trap: bytes, path: str) -> bytes:
    return world.repository.order(GOOD, 2, target_path=path, sha256=digest(trap), length=len(trap))
