"""The smallest archive that the contract's reader accepts; its model is no model."""

import msgspec

from fleet_contract import bundle
from fleet_contract.inputs import VectorInput
from fleet_contract.manifest import Lineage, Manifest, Variant
from fleet_contract.outputs import Classification
from fleet_contract.tensors import Tensor


def tiny_bundle(task: str = "tiny", version: str = "1", note: str = "") -> bytes:
    """Another `note` makes another archive of the same name."""
    zero = Tensor(dtype="float32", shape=[1, 1], data=bytes(4))
    two = Tensor(dtype="float32", shape=[1, 2], data=bytes(8))
    manifest = Manifest(
        task=task,
        version=version,
        input=VectorInput(tensor="x", columns=["a"], low=[0.0], high=[1.0]),
        output=Classification(tensor="y", classes=["no", "yes"]),
        variants=[Variant(name="fp32", entry="fp32.onnx", runtime="onnxruntime", precision="fp32", tolerance=1e-3)],
        known_answers="known-answers.msgpack",
        reference="reference.msgpack",
        card="card.md",
        profiles=["any"],
        lineage=Lineage(task_sha256="0" * 64, data_sha256="0" * 64, seed=0, code="test"),
        entries={},
    )
    files = {
        "fp32.onnx": b"model",
        "known-answers.msgpack": msgspec.msgpack.encode(bundle.KnownAnswers(inputs={"x": zero}, outputs={"fp32": {"y": two}})),
        "reference.msgpack": b"reference",
        "card.md": f"# {task}\n{note}".encode(),
    }
    return bundle.pack(manifest, files)
