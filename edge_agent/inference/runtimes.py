"""The engines that can run a model inside the worker."""

from typing import Protocol

import numpy as np

from edge_agent.errors import Reject
from edge_agent.inference.protocol import Load


class Runtime(Protocol):
    """Opens one model at a time, from bytes alone."""

    def load(self, model: bytes, request: Load) -> None:
        """Raises Reject, or whatever the engine raises."""

    def infer(self, batch: np.ndarray) -> np.ndarray:
        """float32 (rows, values) of a float32 batch. Raises Reject, or whatever the engine raises."""

    def unload(self) -> None: ...


class OnnxRuntime:
    """ONNX Runtime. A model that refers to data outside itself or to operators of unknown domains does not load."""

    def __init__(self) -> None:
        import onnxruntime  # starts a thread, so not before the sandbox

        self._ort = onnxruntime
        self._session = None
        self._input = self._output = ""

    def load(self, model: bytes, request: Load) -> None:
        options = self._ort.SessionOptions()
        options.intra_op_num_threads = request.threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 4
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.add_session_config_entry("session.inter_op.allow_spinning", "0")
        if request.provider not in self._ort.get_available_providers():
            raise Reject(f"this onnxruntime has no {request.provider}", code="no-variant")
        session = self._ort.InferenceSession(model, options, providers=[request.provider])
        session._model_bytes = None  # else it keeps the file too, for a change of providers that nobody asks for
        self._check(session, request)
        self._session, self._input, self._output = session, request.input, request.output

    def infer(self, batch: np.ndarray) -> np.ndarray:
        if self._session is None:
            raise Reject("no model is loaded", code="bundle")
        (answer,) = self._session.run([self._output], {self._input: batch})
        if not isinstance(answer, np.ndarray) or answer.dtype != np.float32 or answer.ndim != 2 or len(answer) != len(batch):
            raise Reject(f"the output {self._output!r} is not float32 of {len(batch)} rows", code="wrong-answer")
        return np.ascontiguousarray(answer)

    def unload(self) -> None:
        self._session = None

    @staticmethod
    def _check(session, request: Load) -> None:
        inputs = [(node.name, node.type) for node in session.get_inputs()]
        if inputs != [(request.input, "tensor(float)")]:
            raise Reject(f"the graph's inputs are {inputs}, wanted one float input {request.input!r}", code="bundle")
        if request.output not in [node.name for node in session.get_outputs()]:
            raise Reject(f"the graph has no output {request.output!r}", code="bundle")


def open_runtime(name: str) -> Runtime:
    """Raises Reject (no-variant) for an engine that this agent cannot run."""
    if name == "onnxruntime":
        return OnnxRuntime()
    if name == "litert":
        raise Reject("the litert runtime is not supported yet: give the bundle an onnxruntime variant", code="no-variant")
    raise Reject(f"unknown runtime {name!r}", code="no-variant")
