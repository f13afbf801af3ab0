"""Structured pruning (Li et al. 2017, arXiv 1608.08710): whole channels leave, the weakest first, and the rest learns their part."""

import copy
from dataclasses import dataclass

import torch
from torch.fx import GraphModule
from torch.utils.flop_counter import FlopCounterMode

from model_tools.data.dataset import Splits
from model_tools.errors import BadInput
from model_tools.export.graph import silence
from model_tools.export.program import capture
from model_tools.quantize import channels
from model_tools.quantize.tuning import Pace, tune
from model_tools.task import Task
from model_tools.train.fit import Progress

_PACE = Pace(share=2.0, rate=0.5)
_LARGEST_SHARE = 0.95
_MULTIPLE = 4
"""Kernels take channels by fours; three cost as much."""


@dataclass(frozen=True)
class Size:
    """Multiplications for one row, and weights."""

    multiplications: int
    weights: int


def learn_pruned(task: Task, splits: Splits, teacher: GraphModule, share: float, probe: torch.Tensor, progress: Progress) -> GraphModule:
    """A captured program without about `share` of its inner channels, 0..0.95, the same part of each layer, fine-tuned to answer as before.

    Deterministic. Raises BadInput for a share out of range, or where no layer has channels to spare.
    """
    if not 0 < share <= _LARGEST_SHARE:
        raise BadInput(f"pruning a share of {share:g} of the channels", field="prune", limit=_LARGEST_SHARE)
    with silence():
        thinned = copy.deepcopy(teacher)
        _thin(thinned, share)
        smaller = capture(thinned, probe)
    tune(task, splits, smaller, teacher, _PACE, progress)
    return smaller


def size_of(program: GraphModule, probe: torch.Tensor) -> Size:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        program(probe[:1])
    return Size(counter.get_total_flops() // 2, sum(weights.numel() for weights in program.parameters()))


def _thin(program: GraphModule, share: float) -> None:
    free = [group for group in channels.groups_of(program) if not group.held and group.read_by and group.size > _MULTIPLE]
    if not free:
        raise BadInput("no layer of this network has channels that could be spared", field="prune")
    for group in free:
        count = max(_MULTIPLE, round(group.size * (1 - share) / _MULTIPLE) * _MULTIPLE)
        if count < group.size:
            strongest = channels.importance(program, group).argsort(descending=True, stable=True)[:count]
            channels.remove(program, group, strongest.sort().values)
