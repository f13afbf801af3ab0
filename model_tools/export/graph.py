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
from torch.fx import GraphModule

from fleet_contract.inputs import ImageInput, InputSpec, WindowInput
from model_tools.errors import BadInput, Failed
from model_tools.export.program import capture, first_words
from model_tools.running import logits as run
from model_tools.train.training import Trained

OUTPUT = "logits"
_BATCH = "batch"
_OPSET = 18
_IR_VERSION = 10
_PROBES = 8
_MOST_DIFFERENCE = 1e-3
"""Of the largest logit; float32 kernels differ by re-ordered sums alone."""


def export_onnx(trained: Trained, spec: InputSpec) -> bytes:
    """One file without external data: float32 input `spec.tensor` (batch, ...), raw, and float32 output "logits" (batch, answers).

    Raises BadInput for a network that does not export, Failed when the graph does not answer as the network does.
    """
    return export_module(trained.module, probe_rows(trained.module, shape_of(spec)), spec.tensor)


def export_module(module: nn.Module, probe: torch.Tensor, tensor: str) -> bytes:
    """The same of any module in evaluation mode; `probe` float32 (rows, ...) are inputs like those it will see, at least 2."""
    with silence():
        return export_program(capture(module, probe), probe, tensor)


def export_program(program: GraphModule, probe: torch.Tensor, tensor: str) -> bytes:
    """The same of a captured program."""
    data = translate(program, probe, tensor).SerializeToString(deterministic=True)
    _check(data, program, probe)
    return data


def translate(program: GraphModule, probe: torch.Tensor, tensor: str) -> onnx.ModelProto:
    """To ONNX, unchecked: `tensor` in, "logits" out, nothing of this machine. Raises BadInput naming the operation that ONNX has not."""
    with silence():
        exported = torch.export.export(program, (probe,), dynamic_shapes=({0: torch.export.Dim(_BATCH, min=1)},))
        try:
            made = torch.onnx.export(
                exported,
                (probe,),
                dynamo=True,
                optimize=True,
                verbose=False,
                opset_version=_OPSET,
                input_names=[tensor],
                output_names=[OUTPUT],
            )
        except (torch.onnx.errors.OnnxExporterError, RuntimeError, ValueError) as error:
            raise BadInput(f"the network does not export to ONNX: {_cause(error)}", field="train.module") from error
    return strip(made.model_proto)


def shape_of(spec: InputSpec) -> tuple[int, ...]:
    """Of one row."""
    if isinstance(spec, ImageInput):
        return (spec.channels, spec.height, spec.width)
    return (spec.length, len(spec.columns)) if isinstance(spec, WindowInput) else (len(spec.columns),)


def probe_rows(module: nn.Sequential, shape: tuple[int, ...]) -> torch.Tensor:
    """Rows like those trained on: around the mean of the normalisation, which comes first."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn((_PROBES, *shape), generator=generator) / module[0].scale + module[0].mean


def strip(model: onnx.ModelProto) -> onnx.ModelProto:
    """Without stack traces, paths and intermediate shapes, which carry the build machine's and break quantizers."""
    del model.metadata_props[:]
    del model.functions[:]
    graph = model.graph
    del graph.metadata_props[:]
    del graph.value_info[:]
    for part in (*graph.node, *graph.initializer, *graph.input, *graph.output):
        del part.metadata_props[:]
        part.doc_string = ""
    for value in (*graph.input, *graph.output):
        if value.type.tensor_type.shape.dim:
            value.type.tensor_type.shape.dim[0].dim_param = _BATCH
    model.doc_string = graph.doc_string = ""
    model.producer_name, model.producer_version, graph.name = "edgefleet", "", "graph"
    model.ir_version = _IR_VERSION
    return model


def _check(data: bytes, program: GraphModule, probe: torch.Tensor) -> None:
    onnx.checker.check_model(data, full_check=True)
    with torch.inference_mode():
        wanted = program(probe).numpy()
    for rows in (1, len(probe)):
        answered = run(data, probe[:rows].numpy())
        if answered.shape != wanted[:rows].shape:
            raise Failed(
                f"the exported graph answers {list(answered.shape)} for {rows} rows", field="export", limit=str(list(wanted.shape))
            )
        difference = float(np.abs(answered - wanted[:rows]).max())
        if not difference <= _MOST_DIFFERENCE * max(1.0, float(np.abs(wanted).max())):
            raise Failed(f"the exported graph differs from the module by {difference:.3g}", field="export", limit=_MOST_DIFFERENCE)


def _cause(error: BaseException) -> str:
    """The innermost error is the one that names the operation."""
    while error.__cause__ is not None:
        error = error.__cause__
    return first_words(error)


@contextlib.contextmanager
def silence() -> Iterator[None]:
    """The exporter talks to stdout, the logs and the warnings of what does not concern a user."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
