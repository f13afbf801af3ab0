"""From a checkpoint to a smaller model: the recipes by which a network learns on, and those that it could have had as a file."""

import copy
from dataclasses import dataclass, replace

from model_tools.data.dataset import Splits
from model_tools.data.pictures import TENSOR
from model_tools.export.graph import export_program, probe_rows, silence
from model_tools.export.program import capture
from model_tools.quantize.aware import learn_int8
from model_tools.quantize.judging import allowed_drop, quality_of, quantize
from model_tools.quantize.pruning import Size, learn_pruned, size_of
from model_tools.quantize.recipe import Kind, Quantized, Recipe
from model_tools.task import Task
from model_tools.train.fit import Progress
from model_tools.train.training import Trained


@dataclass(frozen=True)
class Learnt:
    """`fp32` is the checkpoint as it was, `made` what came of it; the sizes are those of the networks."""

    fp32: bytes
    made: Quantized
    before: Size
    after: Size


def quantize_trained(task: Task, splits: Splits, trained: Trained, kind: Kind, progress: Progress, pruned: float = 0.0) -> Learnt:
    """`trained`, which is left as it was, without a share `pruned` of its channels, by a recipe of any kind. Same arguments, same bytes. Warns
    where it costs more quality on the validation rows than quantize.budget.

    Raises as `quantize`, BadInput for a share out of range or a network that does not export, Failed for a fine-tune that diverges.
    """
    probe = probe_rows(trained.module, splits.train.inputs.shape[1:])
    with silence():
        teacher = capture(trained.module, probe)
        program = copy.deepcopy(teacher)
    fp32, before = export_program(teacher, probe, TENSOR), size_of(teacher, probe)
    if pruned:
        program = learn_pruned(task, splits, teacher, pruned, probe, progress)
    after = size_of(program, probe)
    if kind == "qat":
        made = Quantized(Recipe(kind), learn_int8(task, splits, program, teacher, probe, progress))
    else:
        made = quantize(task, splits, export_program(program, probe, TENSOR), kind=kind)
    made = replace(made, recipe=replace(made.recipe, pruned=pruned), warnings=(*made.warnings, *_losses(task, splits, fp32, made)))
    return Learnt(fp32, made, before, after)


def _losses(task: Task, splits: Splits, fp32: bytes, made: Quantized) -> list[str]:
    quality = quality_of(task, splits, fp32)
    drop = quality(fp32) - quality(made.model)
    if not drop > allowed_drop(task, splits):
        return []
    return [f"too-costly: it loses {drop:.4f} in quality on the validation rows, more than quantize.budget {task.quantize.budget:g}"]
