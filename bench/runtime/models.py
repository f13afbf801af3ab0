"""Models of known sizes with random weights, and bundles around them."""

from itertools import pairwise

import msgspec
import numpy as np
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from fleet_contract import features, tensors
from fleet_contract.bundle import KnownAnswers, pack
from fleet_contract.inputs import InputSpec, VectorInput
from fleet_contract.manifest import Limits, Lineage, Manifest, Variant
from fleet_contract.outputs import Classification
from fleet_contract.sketch import Condition, Feature, Grid, Reference, Sketcher, encode_reference

COLUMNS = 32
_HIDDEN = 64
_CLASSES = 10
_ROWS = 4


def perceptron() -> bytes:
    """Two hidden layers."""
    rng = np.random.default_rng(0)
    sizes = [COLUMNS, _HIDDEN, _HIDDEN, _CLASSES]
    weights = {f"w{at}": rng.normal(size=pair).astype(np.float32) for at, pair in enumerate(pairwise(sizes))}
    nodes, value = [], "input"
    for name in weights:
        nodes.append(helper.make_node("MatMul", [value, name], [f"{name}_sum"]))
        value = f"{name}_out"
        nodes.append(helper.make_node("Relu", [f"{name}_sum"], [value]))
    nodes[-1] = helper.make_node("Identity", [f"w{len(weights) - 1}_sum"], ["logits"])
    made = helper.make_graph(
        nodes,
        "perceptron",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["n", COLUMNS])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", _CLASSES])],
        [numpy_helper.from_array(weight, name) for name, weight in weights.items()],
    )
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()


def perceptron_bundle(model: bytes) -> bytes:
    columns = [f"c{number}" for number in range(COLUMNS)]
    spec = VectorInput("input", columns, [-100.0] * COLUMNS, [100.0] * COLUMNS)
    return bundle_of(model, spec, np.random.default_rng(2).normal(size=(_ROWS, COLUMNS)).astype(np.float32))


def bundle_of(model: bytes, spec: InputSpec, inputs: np.ndarray) -> bytes:
    """Around a model from "input" to "logits"; its known answers to these inputs are its own."""
    (answers,) = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"]).run(None, {"input": inputs})
    output = Classification("logits", [str(number) for number in range(answers.shape[1])])
    known = KnownAnswers({"input": tensors.of_array(inputs)}, {"fp32": {"logits": tensors.of_array(answers)}})
    manifest = Manifest(
        task="bench",
        version="1.0.0",
        input=spec,
        output=output,
        variants=[Variant("fp32", "fp32.onnx", "onnxruntime", "fp32", 1e-3)],
        known_answers="known.msgpack",
        reference="reference.msgpack",
        card="card.md",
        profiles=["any"],
        limits=Limits(memory_mb=512),
        lineage=Lineage(task_sha256="0" * 64, data_sha256="0" * 64, seed=0, code="bench"),
        entries={},
    )
    reference = encode_reference(_reference(spec, output))
    files = {"fp32.onnx": model, "known.msgpack": msgspec.msgpack.encode(known), "card.md": b"# bench\n", "reference.msgpack": reference}
    return pack(manifest, files)


def _reference(spec: InputSpec, output: Classification) -> Reference:
    found = [Feature(name=name, role="input", low=-5, high=5) for name in features.input_names(spec)]
    found += [Feature(name=name, role="output", low=0, high=1) for name in features.output_names(output)]
    grid = Grid(features=found, bins=8)
    sketcher = Sketcher(grid)
    sketcher.add(np.zeros((4, len(found)), np.float32))
    return Reference(grid=grid, conditions=[Condition(name="healthy", features=[f.name for f in found], sketch=sketcher.sketch())])
