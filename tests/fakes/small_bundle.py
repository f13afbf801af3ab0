"""The smallest whole bundle, and releases metadata that names it: signed as model_tools would, without a model in it."""

import hashlib
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

from cryptography.hazmat.primitives.serialization import load_pem_private_key
from securesystemslib.signer import CryptoSigner, SSlibKey
from tuf.api.metadata import Metadata, TargetFile, Targets

from fleet_contract import blocks
from fleet_contract.bundle import Bundle, pack, target_path
from fleet_contract.inputs import VectorInput
from fleet_contract.manifest import Lineage, Manifest, Variant
from fleet_contract.outputs import Classification
from fleet_contract.release import Release, to_custom


def small_bundle(
    version: str = "1.0.0", task: str = "toy", model: bytes = b"not a real model", profiles: Sequence[str] = ("any",)
) -> bytes:
    manifest = Manifest(
        task=task,
        version=version,
        input=VectorInput(tensor="input", columns=["a"], low=[0.0], high=[1.0]),
        output=Classification(tensor="logits", classes=["no", "yes"]),
        variants=[Variant(name="fp32", entry="model.onnx", runtime="onnxruntime", precision="fp32", tolerance=0.001)],
        known_answers="known.msgpack",
        reference="reference.msgpack",
        card="card.md",
        profiles=list(profiles),
        lineage=Lineage(task_sha256="0" * 64, data_sha256="0" * 64, seed=1, code="test"),
        entries={},
    )
    return pack(manifest, {"model.onnx": model, "known.msgpack": b"\x80", "reference.msgpack": b"\x80", "card.md": b"# toy\n"})


def target_file(archive: bytes) -> TargetFile:
    manifest = Bundle(archive).manifest
    custom = to_custom(blocks.index_of(archive), Release(manifest.task, manifest.version))
    path = target_path(manifest.task, manifest.version)
    fields = {"custom": custom}
    return TargetFile(len(archive), {"sha256": hashlib.sha256(archive).hexdigest()}, path, fields)


def add_release(current: bytes, archive: bytes) -> Metadata[Targets]:
    """The next releases metadata, not yet signed, with `archive` added."""
    metadata = Metadata[Targets].from_bytes(current)
    target = target_file(archive)
    metadata.signed.targets[target.path] = target
    metadata.signed.version += 1
    metadata.signed.expires += timedelta(seconds=1)
    return metadata


def sign_release(metadata: Metadata[Targets], key_file: Path) -> bytes:
    key = load_pem_private_key(key_file.read_bytes(), password=None)
    metadata.sign(CryptoSigner(key, SSlibKey.from_crypto(key.public_key())))
    return metadata.to_bytes()
