"""Variants of a bundle besides the two that the workbench makes: the same model as a TFLite file, for boards whose NPU wants one."""

from typing import TYPE_CHECKING

from model_tools import running
from model_tools.adopt.isolation import Bounds, isolated
from model_tools.errors import GateFailed
from model_tools.evaluate.scoring import score
from model_tools.export.tflite import precision_of
from model_tools.pack.archive import Model

if TYPE_CHECKING:
    from model_tools.build import Candidate
    from model_tools.data.dataset import Splits
    from model_tools.task import Task


def further_variant(task: "Task", splits: "Splits", candidate: "Candidate", data: bytes, bounds: Bounds = Bounds()) -> Model:
    """A TFLite file as the variant `<precision>-litert`; its tensors have the manifest's names. Opened in a child process under `bounds`.

    Raises BadInput for a file that does not run, GateFailed where it loses more than gates.max_int8_drop of the float32 model's quality on the
    task's test data: a device may choose it for its speed alone.
    """
    with isolated(bounds) as child:
        outputs = child.ask("litert", running.answers, "litert", data, splits.test.inputs)
        precision = child.ask("litert", precision_of, data)
    lost = candidate.fp32_test.quality - score(outputs, splits.test, candidate.output, len(data)).quality
    if lost > task.gates.max_int8_drop:
        raise GateFailed(f"variant {precision}-litert loses {lost:.3g} in quality", field="max_int8_drop", limit=task.gates.max_int8_drop)
    return Model(precision, data, f"{precision}-litert", "litert")
