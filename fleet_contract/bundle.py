"""The model bundle: manifest, known answers, reference, model card and one model file per variant in one deterministic, uncompressed ZIP.

Read in place, never extracted. The reader accepts one canonical form alone, so what was signed is what is read.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from math import prod
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from fleet_contract import archive, blocks, content, limits, names
from fleet_contract.content import Content
from fleet_contract.errors import BadBundle, UnknownVersion

VERSION = 1
MANIFEST = "manifest.json"
_Positive = Annotated[int, msgspec.Meta(ge=1)]
_ITEM_BYTES = {"float32": 4, "int64": 8, "uint8": 1, "int8": 1}


class _Struct(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    pass


class Entry(_Struct):
    sha256: str
    length: int


class ImageInput(_Struct, tag="image"):
    """Graph input float32 (batch, channels, height, width), pixel values 0..255; scaling is inside the graph. Channels 1 is grey, 3 is RGB."""

    tensor: str
    height: _Positive
    width: _Positive
    channels: Literal[1, 3]

    def __post_init__(self) -> None:
        if self.height * self.width * self.channels > limits.MAX_INPUT_VALUES:
            raise BadBundle(f"an image of {self.height} x {self.width} is too large", field="height", limit=limits.MAX_INPUT_VALUES)


class VectorInput(_Struct, tag="vector"):
    """Graph input float32 (batch, len(columns)) in raw units; scaling is inside the graph. A value outside [low, high] is refused."""

    tensor: str
    columns: list[str]
    low: list[float]
    high: list[float]

    def __post_init__(self) -> None:
        if not 1 <= len(self.columns) <= limits.MAX_CSV_COLUMNS or len({*self.columns}) != len(self.columns):
            raise BadBundle("columns must be distinct, and at least one", field="columns", limit=limits.MAX_CSV_COLUMNS)
        if not len(self.columns) == len(self.low) == len(self.high):
            raise BadBundle("low and high need one value a column", field="low")


class Classification(_Struct, tag="classification"):
    """Graph output float32 (batch, len(classes)): logits. The answer is the softmax's largest."""

    tensor: str
    classes: list[str]

    def __post_init__(self) -> None:
        if not 2 <= len(self.classes) <= limits.MAX_CLASSES or len({*self.classes}) != len(self.classes):
            raise BadBundle("classes must be distinct, and at least two", field="classes", limit=limits.MAX_CLASSES)


class Variant(_Struct):
    """One model file. `tolerance` is the largest allowed absolute difference of a known answer's output values."""

    name: str
    entry: str
    runtime: Literal["onnxruntime", "litert"]
    precision: Literal["fp32", "int8"]
    tolerance: float


class Limits(_Struct):
    """What one worker may use. Exceeding them on the known answers refuses the bundle."""

    memory_mb: _Positive = 1024
    latency_ms: float = 1000.0

    def __post_init__(self) -> None:
        if not 0 < self.latency_ms <= 1000 * limits.MAX_LATENCY_S:
            raise BadBundle(f"a latency limit of {self.latency_ms:g} ms", field="latency_ms", limit=1000 * limits.MAX_LATENCY_S)


class DriftPolicy(_Struct):
    """Test each closed window of `window_inputs`. `false_alarms` bounds the chance that a healthy device ever alarms on this bundle;
    `min_effect` is the least Kolmogorov-Smirnov distance that matters; `windows` consecutive windows must agree."""

    window_inputs: int = 50
    false_alarms: float = 0.01
    min_effect: float = 0.25
    windows: int = 2


class SamplingPolicy(_Struct):
    """What drift asks of a device: at most this many inputs, at most this many bytes."""

    max_items: int = 100
    max_bytes: int = 1_000_000


class RetrainPolicy(_Struct):
    """A job starts by itself when `min_labels` new labels of one drift are in. `approval` is whether its proposal waits for a person."""

    automatic: bool = True
    min_labels: int = 100
    approval: bool = False


class RolloutPolicy(_Struct):
    """Canaries first; the rest once every canary runs the bundle, has `gate_inputs` inputs on it and fires no drift on it."""

    canaries: int = 1
    gate_inputs: int = 50
    gate_refused_share: float = 0.05


class Policy(_Struct):
    drift: DriftPolicy = DriftPolicy()
    sampling: SamplingPolicy = SamplingPolicy()
    retrain: RetrainPolicy = RetrainPolicy()
    rollout: RolloutPolicy = RolloutPolicy()


class Lineage(_Struct, kw_only=True):
    """Where the model came from: digests, not paths."""

    task_sha256: str
    data_sha256: str
    seed: int
    code: str
    parent: str | None = None
    job: str | None = None
    metrics: dict[str, float] = {}


class Manifest(_Struct, kw_only=True):
    """`task` and `version` name the bundle; `profiles` lists the hardware profiles it fits, "any" for all.
    `entries` covers every file of the archive but the manifest itself."""

    schema: int = VERSION
    task: str
    version: str
    input: ImageInput | VectorInput
    output: Classification
    variants: list[Variant]
    known_answers: str
    reference: str
    card: str
    profiles: list[str]
    limits: Limits = Limits()
    policy: Policy = Policy()
    lineage: Lineage
    entries: dict[str, Entry]


class Tensor(_Struct):
    """Little-endian, C order."""

    dtype: Literal["float32", "int64", "uint8", "int8"]
    shape: list[int]
    data: bytes


class KnownAnswers(_Struct):
    """`inputs` is one batch for the graph's input; `outputs[variant]` what that variant must answer within its tolerance."""

    inputs: Tensor
    outputs: dict[str, Tensor]


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
        for tensor in (answers.inputs, *answers.outputs.values()):
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
        for entry in (manifest.known_answers, manifest.reference, manifest.card, *(v.entry for v in manifest.variants)):
            if entry not in manifest.entries:
                raise BadBundle(f"the manifest names {entry!r} but does not list it", field=entry)
        if not manifest.variants or len({v.name for v in manifest.variants}) != len(manifest.variants):
            raise BadBundle("variants must be distinct, and at least one", field="variants")


def target_path(task: str, version: str) -> str:
    """Where a bundle lives in the TUF repository, below the delegated role's pattern `bundles/*`."""
    return f"bundles/{names.name(task, 'task')}-{names.name(version, 'version')}.bundle"


def _sha256(pieces: Iterable[bytes]) -> str:
    digest = hashlib.sha256()
    for piece in pieces:
        digest.update(piece)
    return digest.hexdigest()


def _check_tensor(tensor: Tensor) -> None:
    if len(tensor.shape) > limits.MAX_TENSOR_RANK or min(tensor.shape, default=0) < 0:
        raise BadBundle(f"a known tensor of shape {tensor.shape}", field="known_answers", limit=limits.MAX_TENSOR_RANK)
    if prod(tensor.shape) * _ITEM_BYTES[tensor.dtype] != len(tensor.data):
        raise BadBundle(f"{len(tensor.data)} bytes for a {tensor.dtype} tensor of shape {tensor.shape}", field="known_answers")


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
