"""Export to ONNX: the same module, the same bytes; nothing in them of the machine that made them."""

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator

import numpy as np
import onnx
import torch
from torch import nn

from fleet_contract.inputs import ImageInput, VectorInput
from model_tools.errors import Failed
from model_tools.running import logits as run
from model_tools.train.networks import fold
from model_tools.train.training import Trained

OUTPUT = "logits"
_OPSET = 18
_IR_VERSION = 10
_PROBES = 8
_MOST_DIFFERENCE = 1e-3
"""Of the largest logit; float32 kernels differ by re-ordered sums alone."""


def export_onnx(trained: Trained, spec: ImageInput | VectorInput) -> bytes:
    """One file without external data: float32 input `spec.tensor` (batch, ...), raw, and float32 output "logits" (batch, classes).

    Raises Failed when the graph does not answer as the module does.
    """
    module = fold(trained.module)
    probe = _probe(module, _shape(spec))
    with _silence():
        program = torch.onnx.export(
            module,
            (probe,),
            dynamo=True,
            optimize=True,
            verbose=False,
            opset_version=_OPSET,
            input_names=[spec.tensor],
            output_names=[OUTPUT],
            dynamic_shapes=({0: torch.export.Dim("batch", min=1)},),
        )
    data = _strip(program.model_proto).SerializeToString(deterministic=True)
    _check(data, module, probe)
    return data


def _shape(spec: ImageInput | VectorInput) -> tuple[int, ...]:
    return (spec.channels, spec.height, spec.width) if isinstance(spec, ImageInput) else (len(spec.columns),)


def _probe(module: nn.Sequential, shape: tuple[int, ...]) -> torch.Tensor:
    """Rows like those trained on: around the normalisation's mean."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn((_PROBES, *shape), generator=generator) / module[0].scale + module[0].mean


def _strip(model: onnx.ModelProto) -> onnx.ModelProto:
    """Without stack traces, paths and intermediate shapes, which carry the build machine's and break quantizers."""
    del model.metadata_props[:]
    del model.functions[:]
    graph = model.graph
    del graph.metadata_props[:]
    del graph.value_info[:]
    for part in (*graph.node, *graph.initializer, *graph.input, *graph.output):
        del part.metadata_props[:]
        part.doc_string = ""
    model.doc_string = graph.doc_string = ""
    model.producer_name, model.producer_version, graph.name = "edgefleet", "", "graph"
    model.ir_version = _IR_VERSION
    return model


def _check(data: bytes, module: nn.Sequential, probe: torch.Tensor) -> None:
    onnx.checker.check_model(data, full_check=True)
    with torch.inference_mode():
        wanted = module(probe).numpy()
    for rows in (1, len(probe)):
        answered = run(data, probe[:rows].numpy())
        difference = float(np.abs(answered - wanted[:rows]).max())
        if not difference <= _MOST_DIFFERENCE * max(1.0, float(np.abs(wanted).max())):
            raise Failed(f"the exported graph differs from the module by {difference:.3g}", field="export", limit=_MOST_DIFFERENCE)


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """The exporter talks to stdout, the logs and the warnings of what does not concern a user."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
