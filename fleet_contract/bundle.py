"""The model bundle: manifest, known answers, reference, model card and one model file per variant in one deterministic, uncompressed ZIP.

Read in place, never extracted. The reader accepts one canonical form alone, so what was signed is what is read.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from pathlib import Path

import msgspec

from fleet_contract import archive, blocks, content, limits, names, tensors
from fleet_contract.content import Content
from fleet_contract.errors import BadBundle, UnknownVersion
from fleet_contract.manifest import VERSION, Entry, Manifest
from fleet_contract.outputs import Detection
from fleet_contract.tensors import Tensor

MANIFEST = "manifest.json"


class KnownAnswers(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`inputs` by the manifest's tensor names, rows first; `outputs[variant]` what that variant must answer to all rows within its tolerance.
    Of a model with states the rows are consecutive steps."""

    inputs: dict[str, Tensor]
    outputs: dict[str, dict[str, Tensor]]


class _VersionOnly(msgspec.Struct):
    schema: int


def pack(manifest: Manifest, files: Mapping[str, bytes]) -> bytes:
    """The archive's bytes: same manifest and files, same bytes. `manifest.entries` is filled in here. Raises BadBundle."""
    entries = {name: Entry(sha256=hashlib.sha256(data).hexdigest(), length=len(data)) for name, data in sorted(files.items())}
    body = {MANIFEST: msgspec.json.format(msgspec.json.encode(msgspec.structs.replace(manifest, entries=entries)), indent=1)}
    body.update(sorted(files.items()))
    align = blocks.block_bytes_for(sum(len(data) for data in body.values()))
    data = archive.write(body, align)
    Bundle(data)
    return data


class Bundle:
    """A verified archive in memory or on disk. Constructing it checks everything but the signature: canonical form, every digest, every reference.

    Of a file one piece at a time is in memory. It may be edited at any moment: `sha256` is of an archive with just this manifest,
    and `read` checks what it returns against it once more.
    """

    def __init__(self, source: bytes | Path | Content) -> None:
        """Raises BadBundle, UnknownVersion, or OSError for a file that cannot be read. Nothing is extracted."""
        self._content = content.of(source)
        self.length = self._content.length
        self._spans = archive.spans(self._content, MANIFEST)
        raw = self._slice(MANIFEST, limits.MAX_MANIFEST_BYTES)
        self.manifest = _parse_manifest(raw)
        self.sha256 = self._digest(raw)
        self._check_entries()

    def read(self, entry: str) -> bytes:
        """The bytes of one entry of the manifest, with the digest that it says. Raises BadBundle if there is none, or OSError."""
        return self._checked(entry, limits.MAX_BUNDLE_BYTES)

    def known_answers(self) -> KnownAnswers:
        """Raises BadBundle."""
        data = self._checked(self.manifest.known_answers, limits.MAX_KNOWN_ANSWERS_BYTES)
        try:
            answers = msgspec.msgpack.decode(data, type=KnownAnswers)
        except (ValueError, RecursionError) as error:
            raise BadBundle(f"malformed known answers: {error}", field="known_answers") from error
        for group in (answers.inputs, *answers.outputs.values()):
            for tensor in group.values():
                _check_tensor(tensor)
        return answers

    def _slice(self, entry: str, max_bytes: int) -> bytes:
        if entry not in self._spans:
            raise BadBundle(f"the archive has no entry {entry!r}", field=entry)
        start, length = self._spans[entry]
        if length > max_bytes:
            raise BadBundle(f"entry {entry!r} has {length} bytes, at most {max_bytes}", field=entry, limit=max_bytes)
        return self._content.read(start, length)

    def _checked(self, entry: str, max_bytes: int) -> bytes:
        data = self._slice(entry, max_bytes)
        if entry not in self.manifest.entries or _sha256([data]) != self.manifest.entries[entry].sha256:
            raise BadBundle(f"entry {entry!r} does not have the digest that the manifest says", field=entry)
        return data

    def _pieces(self, start: int, length: int) -> Iterator[bytes]:
        return content.pieces(self._content, start, length)

    def _digest(self, manifest: bytes) -> str:
        """Of the archive, with the manifest's bytes as they were parsed."""
        start, length = self._spans[MANIFEST]
        return _sha256(chain(self._pieces(0, start), [manifest], self._pieces(start + length, self.length)))

    def _check_entries(self) -> None:
        manifest = self.manifest
        if {*self._spans} != {MANIFEST, *manifest.entries}:
            raise BadBundle("the archive's entries are not those of its manifest", field="entries")
        for entry, wanted in manifest.entries.items():
            if _sha256(self._pieces(*self._spans[entry])) != wanted.sha256:
                raise BadBundle(f"entry {entry!r} does not have its digest", field=entry)
        for entry in _named(manifest):
            if entry not in manifest.entries:
                raise BadBundle(f"the manifest names {entry!r} but does not list it", field=entry)
        if not manifest.variants or len({v.name for v in manifest.variants}) != len(manifest.variants):
            raise BadBundle("variants must be distinct, and at least one", field="variants")


def target_path(task: str, version: str) -> str:
    """Where a bundle lives in the TUF repository, below the delegated role's pattern `bundles/*`."""
    return f"bundles/{names.name(task, 'task')}-{names.name(version, 'version')}.bundle"


def _named(manifest: Manifest) -> Iterator[str]:
    yield from (manifest.known_answers, manifest.reference, manifest.card, *(v.entry for v in manifest.variants))
    if isinstance(manifest.output, Detection) and manifest.output.priors is not None:
        yield manifest.output.priors


def _sha256(pieces: Iterable[bytes]) -> str:
    digest = hashlib.sha256()
    for piece in pieces:
        digest.update(piece)
    return digest.hexdigest()


def _check_tensor(tensor: Tensor) -> None:
    try:
        tensors.to_array(tensor)
    except ValueError as error:
        raise BadBundle(f"known answers: {error}", field="known_answers", limit=limits.MAX_TENSOR_RANK) from error


def _parse_manifest(data: bytes) -> Manifest:
    try:
        version = msgspec.json.decode(data, type=_VersionOnly).schema
        if version != VERSION:
            raise UnknownVersion(f"bundle schema {version} is not {VERSION}: upgrade this program", field="schema", limit=VERSION)
        manifest = msgspec.json.decode(data, type=Manifest)
        names.name(manifest.task, "task")
        names.name(manifest.version, "version")
    except UnknownVersion:
        raise
    except (ValueError, RecursionError) as error:
        raise BadBundle(f"malformed manifest: {error}", field=MANIFEST) from error
    return manifest
