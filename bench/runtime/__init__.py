"""What the device runtime costs beside a bare engine: a small model through the sandboxed worker and back."""

from importlib.util import find_spec

from bench.measure import Report, skip
from bench.runtime import calling, streaming

_NEEDED = ("cv2", "onnx", "onnxruntime")


def run() -> Report:
    lacking = [name for name in _NEEDED if find_spec(name) is None]
    if lacking:
        return skip("runtime", f"{', '.join(lacking)} is not installed")
    parts = [calling.measure(), *streaming.measure()]
    return Report("runtime", [row for table, _ in parts for row in table], [aim for _, aims in parts for aim in aims])
