"""Small real ONNX models, good and hostile, and bundles around them."""

from collections.abc import Sequence

import msgspec
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from fleet_contract import features
from fleet_contract.bundle import KnownAnswers, pack
from fleet_contract.inputs import ImageInput, VectorInput
from fleet_contract.manifest import DriftPolicy, Limits, Lineage, Manifest, Policy, Variant
from fleet_contract.outputs import Classification
from fleet_contract.sketch import Condition, Feature, Grid, Reference, Sketcher, encode_reference
from fleet_contract.tensors import Tensor

VECTOR = VectorInput(tensor="input", columns=["a", "b"], low=[-10.0, -10.0], high=[10.0, 10.0])
IMAGE = ImageInput(tensor="input", height=8, width=8, channels=1)
CLASSES = ["no", "yes"]
WEIGHT = np.array([[1.0, -1.0], [0.5, 2.0]], np.float32)
KNOWN_INPUTS = np.array([[1, 2], [-3, 4], [0, 0]], np.float32)
KNOWN_LOGITS = KNOWN_INPUTS @ WEIGHT


def linear(weight: np.ndarray = WEIGHT, *, name: str = "input") -> bytes:
    """logits = input @ weight."""
    return graph([helper.make_node("MatMul", [name, "w"], ["logits"])], {"w": weight.astype(np.float32)}, name=name)


def stacked(weights: dict[str, np.ndarray]) -> bytes:
    """logits = input @ each of the weights in turn."""
    between = ["input", *(f"after_{name}" for name in weights)][:-1]
    nodes = [
        helper.make_node("MatMul", [before, name], [after])
        for before, name, after in zip(between, weights, [*between[1:], "logits"], strict=True)
    ]
    return graph(nodes, weights)


def flat_image(spec: ImageInput = IMAGE, classes: int = 2) -> bytes:
    """The mean pixel, scaled by -1 .. 1, for each class."""
    weight = np.linspace(-1, 1, classes, dtype=np.float32)[None] / (spec.channels * spec.height * spec.width)
    weight = np.repeat(weight, spec.channels * spec.height * spec.width, axis=0)
    nodes = [helper.make_node("Flatten", ["input"], ["flat"]), helper.make_node("MatMul", ["flat", "w"], ["logits"])]
    return graph(nodes, {"w": weight}, shape=("n", spec.channels, spec.height, spec.width), classes=classes)


def not_a_number() -> bytes:
    """Answers sqrt of the logits: NaN for negative ones."""
    nodes = [helper.make_node("MatMul", ["input", "w"], ["m"]), helper.make_node("Sqrt", ["m"], ["logits"])]
    return graph(nodes, {"w": WEIGHT})


def memory_bomb(gib: int = 8) -> bytes:
    """A graph of a few hundred bytes that fills gigabytes when it runs: the first input value sets a dimension."""
    nodes = [
        helper.make_node("ReduceSum", ["input"], ["s"], keepdims=0),
        helper.make_node("Mul", ["s", "zero"], ["z"]),
        helper.make_node("Cast", ["z"], ["i"], to=TensorProto.INT64),
        helper.make_node("Add", ["i", "rows"], ["shape"]),
        helper.make_node("ConstantOfShape", ["shape"], ["big"]),
        helper.make_node("ReduceSum", ["big"], ["sum"], keepdims=0),
        helper.make_node("MatMul", ["input", "w"], ["m"]),
        helper.make_node("Add", ["m", "sum"], ["logits"]),
    ]
    return graph(nodes, {"w": WEIGHT, "zero": np.float32(0), "rows": np.array([gib * 2**28], np.int64)})


def endless() -> bytes:
    """A Loop whose condition never turns false."""
    body = helper.make_graph(
        [helper.make_node("Identity", ["on"], ["on_out"]), helper.make_node("Identity", ["x"], ["x_out"])],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("x", TensorProto.FLOAT, None),
        ],
        [helper.make_tensor_value_info("on_out", TensorProto.BOOL, []), helper.make_tensor_value_info("x_out", TensorProto.FLOAT, None)],
    )
    nodes = [
        helper.make_node("MatMul", ["input", "w"], ["m"]),
        helper.make_node("Loop", ["", "yes", "m"], ["logits"], body=body),
    ]
    return graph(nodes, {"w": WEIGHT, "yes": np.bool_(True)})


def endless_when_first_is_ten() -> bytes:
    """Linear, but an input row batch whose largest value is 10 never ends: what a driver bug on one input looks like."""
    body = helper.make_graph(
        [helper.make_node("Identity", ["on"], ["on_out"]), helper.make_node("Identity", ["x"], ["x_out"])],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("x", TensorProto.FLOAT, None),
        ],
        [helper.make_tensor_value_info("on_out", TensorProto.BOOL, []), helper.make_tensor_value_info("x_out", TensorProto.FLOAT, None)],
    )
    nodes = [
        helper.make_node("MatMul", ["input", "w"], ["m"]),
        helper.make_node("ReduceMax", ["input"], ["top"], keepdims=0),
        helper.make_node("Equal", ["top", "ten"], ["poison"]),
        helper.make_node("Loop", ["", "poison", "m"], ["logits"], body=body),
    ]
    return graph(nodes, {"w": WEIGHT, "ten": np.float32(10)})


def external_data(location: str) -> bytes:
    """Wants its weights from a file beside or outside the model."""
    model = onnx.load_from_string(linear())
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    tensor.external_data.add(key="length", value="16")
    return model.SerializeToString()


def foreign_operator() -> bytes:
    nodes = [helper.make_node("Wizardry", ["input", "w"], ["logits"], domain="com.example")]
    return graph(nodes, {"w": WEIGHT}, opsets=[helper.make_opsetid("", 17), helper.make_opsetid("com.example", 1)])


def double_output() -> bytes:
    nodes = [helper.make_node("MatMul", ["input", "w"], ["m"]), helper.make_node("Cast", ["m"], ["logits"], to=TensorProto.DOUBLE)]
    return graph(nodes, {"w": WEIGHT}, output_type=TensorProto.DOUBLE)


def bundle(
    models: dict[str, bytes] | None = None,
    *,
    spec: ImageInput | VectorInput = VECTOR,
    inputs: np.ndarray = KNOWN_INPUTS,
    answers: np.ndarray = KNOWN_LOGITS,
    classes: Sequence[str] = CLASSES,
    tolerance: float = 1e-3,
    limits: Limits = Limits(memory_mb=512, latency_ms=1000),
    profiles: Sequence[str] = ("any",),
    runtime: str = "onnxruntime",
    version: str = "1.0.0",
    window_inputs: int = 50,
    grid: Grid | None = None,
    known: bytes | None = None,
) -> bytes:
    """A whole archive: variant name to model file; every variant shall give `answers`."""
    models = models or {"fp32": linear()}
    outputs = {name: {"logits": tensor_of(answers)} for name in models}
    known = known or msgspec.msgpack.encode(KnownAnswers(inputs={"input": tensor_of(inputs)}, outputs=outputs))
    manifest = Manifest(
        task="toy",
        version=version,
        input=spec,
        output=Classification(tensor="logits", classes=list(classes)),
        variants=[Variant(name=n, entry=f"{n}.onnx", runtime=runtime, precision="fp32", tolerance=tolerance) for n in models],
        known_answers="known.msgpack",
        reference="reference.msgpack",
        card="card.md",
        profiles=list(profiles),
        limits=limits,
        policy=Policy(drift=DriftPolicy(window_inputs=window_inputs)),
        lineage=Lineage(task_sha256="0" * 64, data_sha256="0" * 64, seed=1, code="test"),
        entries={},
    )
    files = {f"{name}.onnx": model for name, model in models.items()}
    files |= {"known.msgpack": known, "card.md": b"# toy\n"}
    return pack(manifest, files | {"reference.msgpack": encode_reference(reference(spec, grid))})


def reference(spec: ImageInput | VectorInput = VECTOR, grid: Grid | None = None) -> Reference:
    found = [Feature(name=name, role="input", low=-10, high=260) for name in features.input_names(spec)]
    found += [
        Feature(name=name, role="output", low=0, high=1)
        for name in features.output_names(Classification(tensor="logits", classes=[*CLASSES]))
    ]
    grid = grid or Grid(features=found, bins=8)
    sketcher = Sketcher(grid)
    sketcher.add(np.zeros((4, len(grid.features)), np.float32))
    condition = Condition(name="healthy", features=[f.name for f in grid.features], sketch=sketcher.sketch())
    return Reference(grid=grid, conditions=[condition])


def tensor_of(values: np.ndarray) -> Tensor:
    dtype = "uint8" if values.dtype == np.uint8 else "float32"
    return Tensor(dtype=dtype, shape=list(values.shape), data=np.ascontiguousarray(values, np.dtype(dtype).newbyteorder("<")).tobytes())


def graph(nodes, weights, *, name="input", shape=("n", 2), classes=2, output_type=TensorProto.FLOAT, opsets=None) -> bytes:
    made = helper.make_graph(
        nodes,
        "toy",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("logits", output_type, ["n", classes])],
        [numpy_helper.from_array(np.asarray(value), key) for key, value in weights.items()],
    )
    return helper.make_model(made, opset_imports=opsets or [helper.make_opsetid("", 17)], ir_version=8).SerializeToString()
