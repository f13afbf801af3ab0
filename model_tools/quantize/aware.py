"""Quantization-aware training (Jacob et al. 2018, arXiv 1712.05877): the network learns on, rounded as int8 will round it."""

import numpy as np
import torch
from torch.fx import GraphModule

from model_tools.data.dataset import Splits
from model_tools.data.pictures import TENSOR
from model_tools.errors import Failed
from model_tools.evaluate.noise import sqnr_db
from model_tools.export.graph import silence, translate
from model_tools.quantize.biases import round_biases
from model_tools.quantize.static import finish
from model_tools.quantize.tuning import Pace, tune
from model_tools.running import logits
from model_tools.task import Task
from model_tools.train.fit import Progress
from model_tools.train.training import calibration

_ROWS = 64
_PACE = Pace(share=1.0, rate=0.1)
_LEAST_SQNR_DB = 20.0
"""Of ONNX Runtime's answers to torch's of the same int8 program: they round a few sums otherwise, no more."""


def learn_int8(task: Task, splits: Splits, program: GraphModule, teacher: GraphModule, probe: torch.Tensor, progress: Progress) -> bytes:
    """An int8 ONNX (QDQ) of a captured `program`, which is used up, fine-tuned to answer as `teacher`. Same arguments, same bytes.

    Raises BadInput for a program that does not export, Failed when nothing in it can be quantized, training diverges, or the file does not
    answer as it did in training.
    """
    rows = calibration(task, splits)
    prepared = _prepare(program)
    _calibrate(prepared, rows)
    tune(task, splits, prepared, teacher, _PACE, progress)
    made = _convert(prepared)
    model = translate(made, probe, TENSOR)
    round_biases(model)
    data = finish(model)
    _check(data, made, rows)
    return data


def _prepare(program: GraphModule) -> GraphModule:
    with silence():
        from torchao.quantization.pt2e.quantize_pt2e import prepare_qat_pt2e  # two seconds, and words about CUDA

        from model_tools.quantize.annotation import Int8, has_products

        if not has_products(program):
            raise Failed("nothing in the network could be quantized", field="quantize")
        prepared = prepare_qat_pt2e(program, Int8())
    # forbidden again: see export.program
    del prepared.train, prepared.eval
    return prepared


def _calibrate(prepared: GraphModule, rows: np.ndarray) -> None:
    """Ranges of activations are those of these rows, true minimum and maximum; those of weights go on following them."""
    from torchao.quantization.pt2e import FakeQuantize

    with torch.no_grad():
        for at in range(0, len(rows), _ROWS):
            prepared(torch.from_numpy(rows[at : at + _ROWS]))
    for part in prepared.modules():
        if isinstance(part, FakeQuantize) and not part.is_per_channel:
            part.disable_observer()


def _convert(prepared: GraphModule) -> GraphModule:
    with silence():
        from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e

        return convert_pt2e(prepared.eval())


def _check(data: bytes, program: GraphModule, rows: np.ndarray) -> None:
    rows = rows[: 4 * _ROWS]
    with torch.inference_mode():
        wanted = program(torch.from_numpy(rows)).numpy()
    alike_db = sqnr_db(wanted, logits(data, rows))
    if alike_db < _LEAST_SQNR_DB:
        told = f"the int8 graph answers otherwise than it was trained: {alike_db:.1f} dB"
        raise Failed(told, field="quantize", limit=_LEAST_SQNR_DB)
