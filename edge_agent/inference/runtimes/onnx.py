"""ONNX Runtime. A model that refers to data outside itself or to operators of unknown domains does not load."""

from collections.abc import Mapping

import numpy as np
import onnxruntime

from edge_agent.errors import Reject
from edge_agent.inference.plan import GraphSignature, GraphTensor, Plan


class OnnxRuntime:
    """Implements port.Runtime."""

    def __init__(self) -> None:
        self._session = None
        self._plan: Plan | None = None

    def load(self, model: bytes, plan: Plan) -> GraphSignature:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = plan.threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 4
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.add_session_config_entry("session.inter_op.allow_spinning", "0")
        if plan.provider not in onnxruntime.get_available_providers():
            raise Reject(f"this onnxruntime has no {plan.provider}", code="no-variant")
        session = onnxruntime.InferenceSession(model, options, providers=[(plan.provider, plan.options)])
        session._model_bytes = None  # else it keeps the file too, for a change of providers that nobody asks for
        signature = GraphSignature(_told(session.get_inputs()), _told(session.get_outputs()))
        _check([bound.graph for bound in plan.inputs], signature.inputs, "input", every=True)
        _check([bound.graph for bound in plan.outputs], signature.outputs, "output", every=False)
        self._session, self._plan = session, plan
        return signature

    def infer(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        if self._session is None or self._plan is None:
            raise Reject("no model is loaded", code="bundle")
        plan = self._plan
        answers = self._session.run([bound.graph for bound in plan.outputs], {bound.graph: inputs[bound.name] for bound in plan.inputs})
        found = {}
        for bound, answer in zip(plan.outputs, answers, strict=True):
            if not isinstance(answer, np.ndarray) or answer.dtype != bound.dtype:
                raise Reject(f"the output {bound.name!r} is not {bound.dtype}", code="wrong-answer")
            found[bound.name] = np.ascontiguousarray(answer)
        return found

    def unload(self) -> None:
        self._session = self._plan = None


def _told(nodes) -> list[GraphTensor]:
    return [GraphTensor(node.name, node.type, [axis if isinstance(axis, int) else -1 for axis in node.shape]) for node in nodes]


def _check(wanted: list[str], found: list[GraphTensor], what: str, *, every: bool) -> None:
    names = [tensor.name for tensor in found]
    if not {*wanted} <= {*names} or (every and {*names} != {*wanted}):
        raise Reject(f"the graph's {what}s are {', '.join(names)}; the bundle wants {', '.join(wanted)}", code="bundle")
