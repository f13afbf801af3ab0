"""What an engine must do inside the worker, whatever it is."""

from collections.abc import Mapping
from typing import Protocol

import numpy as np

from edge_agent.errors import Reject
from edge_agent.inference.plan import GraphSignature, Plan
from firmware_profiles.catalog import Backend


class Runtime(Protocol):
    """Opens one model at a time, from bytes alone. Every call may also raise whatever the engine raises."""

    def load(self, model: bytes, plan: Plan) -> GraphSignature:
        """The graph's own tensors. Raises Reject: `bundle` where it does not fit the plan, `no-variant` where the backend cannot take it."""

    def infer(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The plan's outputs by name, of the plan's inputs by name, all of the plan's types and in C order.
        Raises Reject: `wrong-answer` for an output that is no tensor, `bundle` for rows that the graph does not take, `bad-input` for
        values that the graph's types cannot hold."""

    def unload(self) -> None:
        """Let go of the model; safe without one."""


def open_runtime(backend: Backend) -> Runtime:
    """Imports the engine and opens the backend's library: what needs files, before the sandbox is closed. Raises Reject (no-variant)."""
    try:
        match backend:
            case Backend(runtime="onnxruntime"):
                from edge_agent.inference.runtimes.onnx import OnnxRuntime

                return OnnxRuntime(backend)
            case Backend(provider="interpreter"):
                from edge_agent.inference.runtimes.litert import LiteRtRuntime

                return LiteRtRuntime(backend)
            case Backend(provider="compiled"):
                from edge_agent.inference.runtimes.compiled import CompiledRuntime

                return CompiledRuntime(backend)
    except ImportError as error:
        raise Reject(f"the {backend.runtime} runtime is not installed: {error}", code="no-variant") from error
    raise Reject(f"the {backend.runtime} runtime has no provider {backend.provider!r}", code="no-variant")
