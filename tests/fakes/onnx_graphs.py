"""Small ONNX models, written as text (onnx.parser)."""

import numpy as np
import onnx
from onnx import numpy_helper, parser


def graph(given: str, body: str, told: str = "logits", **constants: np.ndarray) -> bytes:
    """`given` is the input's shape, as "rows, 3, 8, 8"; `body` the operators, which may read the constants by name."""
    text = f'<ir_version: 10, opset_import: ["" : 18]>\ng (float[{given}] input) => (float[] {told}) {{ {body} }}'
    model = parser.parse_model(text)
    model.graph.output[0].type.tensor_type.ClearField("shape")
    model.graph.initializer.extend(numpy_helper.from_array(values, name) for name, values in constants.items())
    return onnx.shape_inference.infer_shapes(model).SerializeToString(deterministic=True)


def values(*shape: int, seed: int = 0) -> np.ndarray:
    """Float32, normal."""
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
