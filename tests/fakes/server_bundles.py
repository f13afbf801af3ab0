"""Bundles with a real reference and policy, and no model in them: what the server needs of one."""

import numpy as np

from fleet_contract.bundle import pack
from fleet_contract.inputs import ImageInput, VectorInput
from fleet_contract.manifest import DriftPolicy, Lineage, Manifest, Policy, RetrainPolicy, RolloutPolicy, SamplingPolicy, Variant
from fleet_contract.outputs import Classification
from fleet_contract.sketch import Condition, Feature, Grid, Reference, Sketch, Sketcher, encode_reference

GRID = Grid(features=[Feature("a", "input", 0.0, 1.0), Feature("b", "input", 0.0, 1.0), Feature("confidence", "output", 0.0, 1.0)], bins=32)
POLICY = Policy(
    drift=DriftPolicy(window_inputs=50, false_alarms=0.01, min_effect=0.25, windows=2),
    sampling=SamplingPolicy(max_items=4, max_bytes=100_000),
    retrain=RetrainPolicy(automatic=True, min_labels=4, approval=False),
    rollout=RolloutPolicy(canaries=1, gate_inputs=10, gate_refused_share=0.05),
)
VECTOR = VectorInput(tensor="input", columns=["a", "b"], low=[0.0, 0.0], high=[1.0, 1.0])
IMAGE = ImageInput(tensor="input", height=8, width=8, channels=1)


def rows(rng: np.random.Generator, count: int, centre: float = 0.4) -> np.ndarray:
    """float32 (count, 3): a stream whose inputs lie around `centre`."""
    return np.clip(rng.normal(centre, 0.1, (count, len(GRID.features))), 0, 1).astype(np.float32)


def sketch_of(values: np.ndarray, grid: Grid = GRID) -> Sketch:
    sketcher = Sketcher(grid)
    sketcher.add(values)
    return sketcher.sketch()


def reference_of(*centres: float, count: int = 2000, seed: int = 7) -> Reference:
    """One condition per centre."""
    rng = np.random.default_rng(seed)
    every = [feature.name for feature in GRID.features]
    return Reference(GRID, [Condition(f"c{at}", every, sketch_of(rows(rng, count, centre))) for at, centre in enumerate(centres)])


def make_bundle(
    version: str = "1",
    task: str = "toy",
    *,
    policy: Policy = POLICY,
    centres: tuple[float, ...] = (0.4,),
    spec: ImageInput | VectorInput = VECTOR,
    classes: tuple[str, ...] = ("no", "yes"),
) -> bytes:
    """The archive's bytes."""
    manifest = Manifest(
        task=task,
        version=version,
        input=spec,
        output=Classification(tensor="logits", classes=[*classes]),
        variants=[Variant(name="fp32", entry="model.onnx", runtime="onnxruntime", precision="fp32", tolerance=0.001)],
        known_answers="known.msgpack",
        reference="reference.msgpack",
        card="card.md",
        profiles=["any"],
        policy=policy,
        lineage=Lineage(task_sha256="0" * 64, data_sha256="0" * 64, seed=1, code="test"),
        entries={},
    )
    files = {"model.onnx": version.encode(), "known.msgpack": b"\x80", "reference.msgpack": encode_reference(reference_of(*centres))}
    return pack(manifest, {**files, "card.md": b"# toy\n"})
