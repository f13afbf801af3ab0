"""A bundle has one canonical form; everything else, down to one flipped bit, is refused before anything in it is used."""

import hashlib
import io
import os
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet_contract import archive, blocks, bundle, content, limits
from fleet_contract.bundle import Bundle
from fleet_contract.errors import BadBundle, BadName, UnknownVersion
from fleet_contract.inputs import ImageInput, VectorInput
from fleet_contract.manifest import Entry, Manifest
from fleet_contract.outputs import Classification
from fleet_contract.tensors import Tensor
from tests.golden.specimens import a_manifest, bundle_files

ARCHIVE = bundle.pack(a_manifest(), bundle_files())
SMALL = bundle.pack(a_manifest(), {**bundle_files(), "models/fp32.onnx": b"", "models/int8.onnx": b""})


def bodies_of(data: bytes = ARCHIVE) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(data)) as opened:
        return {name: opened.read(name) for name in opened.namelist()}


def written(bodies: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    """By any ordinary ZIP program."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", compression) as made:
        for name, data in bodies.items():
            made.writestr(zipfile.ZipInfo(name), data)
    return out.getvalue()


def canonical(bodies: dict[str, bytes]) -> bytes:
    """In our form, whatever is in it: what someone who knows the form could make."""
    return archive.write(bodies, blocks.block_bytes_for(sum(map(len, bodies.values()))))


def with_manifest(change: Callable[[dict], None]) -> bytes:
    bodies = bodies_of()
    manifest = msgspec.json.decode(bodies[bundle.MANIFEST])
    change(manifest)
    return canonical(bodies | {bundle.MANIFEST: msgspec.json.encode(manifest)})


def set_field(path: str, value: object) -> Callable[[dict], None]:
    *parents, last = path.split(".")

    def change(manifest: dict) -> None:
        at = manifest
        for parent in parents:
            at = at[int(parent)] if isinstance(at, list) else at[parent]
        at[last] = value

    return change


def test_the_same_manifest_and_files_make_the_same_bytes() -> None:
    backwards = dict(reversed(bundle_files().items()))
    assert bundle.pack(a_manifest(), backwards) == ARCHIVE


def test_entries_begin_on_block_boundaries() -> None:
    align = blocks.block_bytes_for(len(ARCHIVE))
    for data in bodies_of().values():
        assert data in (ARCHIVE[at : at + len(data)] for at in range(0, len(ARCHIVE), align))


def test_an_unchanged_entry_keeps_its_blocks() -> None:
    other = bundle.pack(a_manifest(), bundle_files() | {"card.md": b"# Pump, another time\n"})
    old, new = blocks.index_of(ARCHIVE), blocks.index_of(other)
    kept = {old.digest(at) for at in range(old.count)} & {new.digest(at) for at in range(new.count)}
    assert len(kept) >= 4  # both models, the known answers and the reference


def test_an_ordinary_program_can_list_and_read_it() -> None:
    with zipfile.ZipFile(io.BytesIO(ARCHIVE)) as opened:
        assert opened.testzip() is None
        assert opened.namelist()[0] == bundle.MANIFEST


def test_what_was_packed_is_read(tmp_path: Path) -> None:
    path = tmp_path / "x.bundle"
    path.write_bytes(ARCHIVE)
    read = Bundle(path)
    assert read.sha256 == hashlib.sha256(ARCHIVE).hexdigest() and read.length == len(ARCHIVE)
    assert {name: read.read(name) for name in read.manifest.entries} == bundle_files()
    assert read.known_answers().inputs["input"].shape == [1, 2]


def test_there_is_no_entry_that_is_not_listed() -> None:
    with pytest.raises(BadBundle):
        Bundle(ARCHIVE).read("../../etc/passwd")


@settings(max_examples=300, deadline=None)
@given(at=st.integers(0, len(SMALL) - 1), bits=st.integers(1, 255))
def test_a_flipped_byte_is_refused(at: int, bits: int) -> None:
    spoilt = bytearray(SMALL)
    spoilt[at] ^= bits
    with pytest.raises((BadBundle, UnknownVersion)):
        Bundle(bytes(spoilt))


def test_every_byte_of_the_directories_counts() -> None:
    start = SMALL.index(b"PK\x01\x02")
    for at in [*range(64), *range(start, len(SMALL))]:
        spoilt = bytearray(SMALL)
        spoilt[at] ^= 1
        with pytest.raises((BadBundle, UnknownVersion)):
            Bundle(bytes(spoilt))


@settings(max_examples=100, deadline=None)
@given(st.integers(0, len(ARCHIVE) - 1))
def test_an_archive_cut_short_is_refused(length: int) -> None:
    with pytest.raises(BadBundle):
        Bundle(ARCHIVE[:length])


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=400))
def test_noise_is_refused(noise: bytes) -> None:
    with pytest.raises(BadBundle):
        Bundle(noise)


def _twice(bodies: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with pytest.warns(UserWarning, match="Duplicate name"), zipfile.ZipFile(out, "w") as made:
        for name, data in [*bodies.items(), ("card.md", b"another")]:
            made.writestr(zipfile.ZipInfo(name), data)
    return out.getvalue()


def _claim_size(data: bytes, size: int) -> bytes:
    """The central directory says another size for its first entry."""
    at = data.index(b"PK\x01\x02")
    return data[: at + 20] + struct.pack("<II", size, size) + data[at + 28 :]


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="empty"),
        pytest.param(written(bodies_of()), id="zipped by another program"),
        pytest.param(written(bodies_of(), zipfile.ZIP_DEFLATED), id="compressed"),
        pytest.param(written({"zeros": bytes(10_000_000)}, zipfile.ZIP_DEFLATED), id="a bomb"),
        pytest.param(_twice(bodies_of()), id="a name twice"),
        pytest.param(canonical(dict(reversed(bodies_of().items()))), id="the manifest not first"),
        pytest.param(canonical(bodies_of() | {"extra": b"x"}), id="an entry that the manifest does not list"),
        pytest.param(canonical({k: v for k, v in bodies_of().items() if k != "card.md"}), id="an entry missing"),
        pytest.param(canonical(bodies_of() | {"card.md": b"another card"}), id="an entry exchanged"),
        pytest.param(canonical(bodies_of() | {"../evil": b"x"}), id="a name that climbs"),
        pytest.param(canonical(bodies_of() | {"/evil": b"x"}), id="an absolute name"),
        pytest.param(canonical(bodies_of() | {f"e{n}": b"" for n in range(limits.MAX_BUNDLE_ENTRIES)}), id="too many entries"),
        pytest.param(ARCHIVE + b"\0", id="something after the end"),
        pytest.param(b"#!/bin/sh\n" + ARCHIVE, id="something before the beginning"),
        pytest.param(ARCHIVE[:-2] + b"\x05\0hello", id="a comment"),
        pytest.param(_claim_size(ARCHIVE, 2**32 - 2), id="a size that is a lie"),
        pytest.param(canonical({}), id="an archive of nothing"),
    ],
)
def test_another_form_is_refused(data: bytes) -> None:
    with pytest.raises(BadBundle):
        Bundle(data)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(set_field("colour", "red"), id="an unknown field"),
        pytest.param(set_field("policy.drift.colour", "red"), id="an unknown field deep inside"),
        pytest.param(set_field("task", "../up"), id="a task name that climbs"),
        pytest.param(set_field("task", ""), id="no task name"),
        pytest.param(set_field("version", "1 0"), id="a version outside the charset"),
        pytest.param(set_field("variants", []), id="no variant"),
        pytest.param(set_field("limits.latency_ms", 1e12), id="a latency limit that no hanging worker would ever meet"),
        pytest.param(set_field("limits.latency_ms", 0), id="no time at all"),
        pytest.param(set_field("limits.memory_mb", -512), id="a negative memory limit"),
        pytest.param(set_field("variants.1.name", "int8"), id="two variants of one name"),
        pytest.param(set_field("variants.0.entry", "other.onnx"), id="a variant without its file"),
        pytest.param(set_field("variants.0.runtime", "magic"), id="an unknown runtime"),
        pytest.param(set_field("known_answers", "none"), id="known answers without their file"),
        pytest.param(set_field("reference", "manifest.json"), id="a reference that is the manifest"),
        pytest.param(set_field("card", "card"), id="a card without its file"),
        pytest.param(set_field("input.columns", []), id="no column"),
        pytest.param(set_field("input.columns", ["a", "a"]), id="a column twice"),
        pytest.param(set_field("input.low", [0.0]), id="a low too few"),
        pytest.param(set_field("output.classes", ["one"]), id="one class"),
        pytest.param(set_field("output.classes", ["a", "a"]), id="a class twice"),
        pytest.param(set_field("schema", "1"), id="a schema that is text"),
    ],
)
def test_a_manifest_that_makes_no_sense_is_refused(change: Callable[[dict], None]) -> None:
    with pytest.raises(BadBundle):
        Bundle(with_manifest(change))


def test_a_manifest_of_the_future_says_so() -> None:
    def of_the_future(manifest: dict) -> None:
        manifest.clear()
        manifest["schema"] = 2

    with pytest.raises(UnknownVersion) as caught:
        Bundle(with_manifest(of_the_future))
    assert (caught.value.field, caught.value.limit) == ("schema", 1)


@pytest.mark.parametrize("manifest", [b"", b"[" * 90_000, b"{}", b"\xff", b'{"schema":1}'], ids=["empty", "deep", "bare", "noise", "bones"])
def test_a_malformed_manifest_is_refused(manifest: bytes) -> None:
    with pytest.raises(BadBundle):
        Bundle(canonical(bodies_of() | {bundle.MANIFEST: manifest}))


def test_a_manifest_has_its_limit() -> None:
    with pytest.raises(BadBundle) as caught:
        Bundle(canonical({bundle.MANIFEST: b" " * (limits.MAX_MANIFEST_BYTES + 1)}))
    assert caught.value.limit == limits.MAX_MANIFEST_BYTES


def test_nothing_is_packed_that_would_not_be_read() -> None:
    with pytest.raises(BadBundle):
        bundle.pack(a_manifest(), {"card.md": b""})
    with pytest.raises(BadBundle):
        bundle.pack(a_manifest(), bundle_files() | {"a/../b": b""})


@pytest.mark.parametrize(
    ("build", "field"),
    [
        pytest.param(lambda: ImageInput(tensor="x", height=20_000, width=20_000, channels=3), "height", id="an image too large"),
        pytest.param(lambda: VectorInput(tensor="x", columns=[], low=[], high=[]), "columns", id="no column"),
        pytest.param(lambda: VectorInput(tensor="x", columns=["a"], low=[], high=[1.0]), "low", id="no low"),
        pytest.param(lambda: Classification(tensor="y", classes=["a"]), "classes", id="one class"),
    ],
)
def test_a_part_that_makes_no_sense_is_an_error(build: Callable[[], object], field: str) -> None:
    with pytest.raises(BadBundle) as caught:
        build()
    assert caught.value.field == field


@pytest.mark.parametrize(
    "answers",
    [
        pytest.param(b"\x80", id="no fields"),
        pytest.param(b"\x91" * 50_000, id="nested without end"),
        pytest.param(Tensor("float32", [1, 2], bytes(7)), id="a byte missing"),
        pytest.param(Tensor("int64", [2**40, 2**40], b""), id="a shape beyond memory"),
        pytest.param(Tensor("uint8", [-1, -1], b"x"), id="negative axes"),
        pytest.param(Tensor("uint8", [1] * (limits.MAX_TENSOR_RANK + 1), b"x"), id="too many axes"),
    ],
)
def test_malformed_known_answers_are_refused(answers: bytes | Tensor) -> None:
    data = answers if isinstance(answers, bytes) else msgspec.msgpack.encode(bundle.KnownAnswers({"x": answers}, {}))
    read = Bundle(bundle.pack(a_manifest(), bundle_files() | {"known-answers.msgpack": data}))
    with pytest.raises(BadBundle):
        read.known_answers()


def test_a_target_path_is_made_of_names() -> None:
    assert bundle.target_path("pump", "1.0.0") == "bundles/pump-1.0.0.bundle"
    with pytest.raises(BadName):
        bundle.target_path("../pump", "1.0.0")


def test_packing_fills_in_the_entries() -> None:
    data = bundle_files()["card.md"]
    manifest: Manifest = Bundle(ARCHIVE).manifest
    assert manifest.entries["card.md"] == Entry(sha256=hashlib.sha256(data).hexdigest(), length=len(data))


class TestOnDisk:
    """A file may change after it was checked; what is read later is checked again."""

    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        path = tmp_path / "x.bundle"
        path.write_bytes(ARCHIVE)
        return path

    @pytest.mark.parametrize(
        "spoil",
        [lambda data: data.replace(b"card", b"CARD"), lambda data: data[:5_000], lambda data: b""],
        ids=["edited", "cut", "emptied"],
    )
    def test_an_edited_file_is_refused_when_it_is_read(self, path: Path, spoil: Callable[[bytes], bytes]) -> None:
        opened = Bundle(path)
        body = opened.read("models/int8.onnx")
        start = ARCHIVE.index(body)
        path.write_bytes(spoil(ARCHIVE[:start] + bytes(len(body)) + ARCHIVE[start + len(body) :]))
        with pytest.raises(BadBundle):
            opened.read("models/int8.onnx")

    def test_a_file_of_other_kinds_is_refused(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "pipe")
        for path in (tmp_path, tmp_path / "pipe"):
            with pytest.raises(BadBundle):
                Bundle(path)

    def test_a_link_is_followed_only_where_one_may_be(self, path: Path, tmp_path: Path) -> None:
        link = tmp_path / "link"
        link.symlink_to(path)
        assert Bundle(link).sha256 == Bundle(path).sha256
        with pytest.raises(OSError, match="link"):
            Bundle(content.Stored(link, follow=False))

    def test_a_large_archive_needs_little_memory(self, tmp_path: Path) -> None:
        """The peak of a fresh process that checks 64 MB of model is less than the model."""
        path, weights = tmp_path / "large.bundle", bytes(64_000_000)
        files = {**bundle_files(), "models/fp32.onnx": weights}
        entries = {name: Entry(sha256=hashlib.sha256(data).hexdigest(), length=len(data)) for name, data in sorted(files.items())}
        manifest = msgspec.json.encode(msgspec.structs.replace(a_manifest(), entries=entries))
        path.write_bytes(canonical({bundle.MANIFEST: manifest, **files}))
        script = "import sys; from pathlib import Path; from fleet_contract.bundle import Bundle; Bundle(Path(sys.argv[1]))"
        script += "; print(Path('/proc/self/status').read_text())"
        done = subprocess.run([sys.executable, "-c", script, str(path)], check=True, capture_output=True, text=True)
        peak_kib = int(done.stdout.partition("VmHWM:")[2].split()[0])
        assert peak_kib * limits.KIB < len(weights)
