"""The model that is asked, a multilayer perceptron of some ten microseconds, and the same question in every protocol."""

import base64
import json

import numpy as np

from fleet_contract.inputs import VectorInput
from tests.fakes import agent_run_models as models

MODEL = "toy"
COLUMNS = 16
_HIDDEN = 64
_ROW = np.linspace(-1, 1, COLUMNS, dtype=np.float32)[None]


def perceptron() -> bytes:
    """An ONNX file: float32 `input` (rows, 16) to `logits` (rows, 2)."""
    return models.graph(_nodes(), _weights(), shape=("n", COLUMNS))


def bundle() -> bytes:
    one, two, three = _weights().values()
    known = np.maximum(np.maximum(_ROW @ one, 0) @ two, 0) @ three
    spec = VectorInput(tensor="input", columns=[f"c{at}" for at in range(COLUMNS)], low=[-10.0] * COLUMNS, high=[10.0] * COLUMNS)
    return models.bundle({"fp32": perceptron()}, spec=spec, inputs=_ROW, answers=known)


def rest(path: str, *, binary: bool = False) -> str:
    """A whole HTTP request of the Open Inference Protocol, as base64."""
    tensor: dict = {"name": "input", "shape": [1, COLUMNS], "datatype": "FP32"}
    tensor |= {"parameters": {"binary_data_size": 4 * COLUMNS}} if binary else {"data": _ROW.ravel().tolist()}
    asked = {"inputs": [tensor], **({"parameters": {"binary_data_output": True}} if binary else {})}
    head = json.dumps(asked).encode()
    if binary:
        return _post(path, head + _ROW.tobytes(), f"Inference-Header-Content-Length: {len(head)}", "application/octet-stream")
    return _post(path, head)


def plain(path: str) -> str:
    """For a server that speaks no protocol of its own: {"input": [[...]]}."""
    return _post(path, json.dumps({"input": _ROW.tolist()}).encode())


def grpc() -> str:
    """A ModelInferRequest with raw contents, as base64."""
    from tritonclient.grpc import service_pb2

    request = service_pb2.ModelInferRequest(model_name=MODEL, raw_input_contents=[_ROW.tobytes()])
    request.inputs.add(name="input", datatype="FP32", shape=[1, COLUMNS])
    return base64.b64encode(request.SerializeToString()).decode()


def _post(path: str, body: bytes, field: str = "Accept: */*", content_type: str = "application/json") -> str:
    lines = [f"POST {path} HTTP/1.1", "Host: 127.0.0.1", f"Content-Type: {content_type}", f"Content-Length: {len(body)}", field, "", ""]
    return base64.b64encode("\r\n".join(lines).encode() + body).decode()


def _nodes() -> list:
    node = models.helper.make_node
    return [
        node("MatMul", ["input", "one"], ["a"]),
        node("Relu", ["a"], ["b"]),
        node("MatMul", ["b", "two"], ["c"]),
        node("Relu", ["c"], ["d"]),
        node("MatMul", ["d", "three"], ["logits"]),
    ]


def _weights() -> dict[str, np.ndarray]:
    random = np.random.default_rng(1)
    shapes = {"one": (COLUMNS, _HIDDEN), "two": (_HIDDEN, _HIDDEN), "three": (_HIDDEN, 2)}
    return {name: (random.standard_normal(shape) / 8).astype(np.float32) for name, shape in shapes.items()}
