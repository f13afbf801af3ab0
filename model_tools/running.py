"""Runs an ONNX model on the CPU here, single-threaded, so that the same model and inputs give the same numbers."""

import numpy as np

from model_tools.errors import BadInput

_BATCH = 256
_BATCH_VALUES = 2**24
"""Large pictures go in smaller batches: their activations are many times their size."""


def logits(model: bytes, inputs: np.ndarray, *, fused: bool = True) -> np.ndarray:
    """float32 (rows, classes). `fused` False turns every graph optimisation off. Raises BadInput for a model that does not run."""
    import onnxruntime  # a quarter of a second that `--help` need not wait for

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    if not fused:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        name = session.get_inputs()[0].name
        size = max(1, min(_BATCH, _BATCH_VALUES // max(1, inputs[0].size))) if len(inputs) else 1
        parts = [session.run(None, {name: inputs[at : at + size]})[0] for at in range(0, len(inputs), size)]
    except (*_refusals(), RuntimeError, ValueError, IndexError) as error:
        raise BadInput(f"the model does not run: {error}", field="model") from error
    empty = np.empty((0, session.get_outputs()[0].shape[1]), np.float32)
    return np.concatenate([empty, *parts]).astype(np.float32)


def _refusals() -> tuple[type[Exception], ...]:
    """onnxruntime's own errors; they have no base class of their own."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    return (state.Fail, state.InvalidArgument, state.InvalidGraph, state.InvalidProtobuf, state.NotImplemented, state.RuntimeException)
