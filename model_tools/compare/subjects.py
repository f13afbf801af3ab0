"""What is measured: a model file, or one variant of a bundle, and how its answers are read."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fleet_contract.bundle import Bundle
from fleet_contract.manifest import Manifest, Variant
from fleet_contract.outputs import Anomaly, Classification, OutputSpec, Regression
from fleet_contract.signature import inputs_of
from model_tools import running
from model_tools.adopt.isolation import Isolated
from model_tools.data.dataset import Splits
from model_tools.errors import BadInput
from model_tools.evaluate.answering import fit_answer
from model_tools.model_files import read_model
from model_tools.task import Task

_ROUNDED = 0.05
"""What the probabilities of an int8 graph may miss 1 by."""


@dataclass(frozen=True)
class Subject:
    """`manifest` and `variant` are a bundle's; a file has none."""

    name: str
    runtime: str
    data: bytes
    manifest: Manifest | None = None
    variant: Variant | None = None


@dataclass(frozen=True)
class Answered:
    """float32 (rows, ...) that a subject gave, and how they are read."""

    subject: Subject
    outputs: np.ndarray
    output: OutputSpec


def open_subject(where: str | Path) -> Subject:
    """`where` is an .onnx or .tflite file, or BUNDLE[:VARIANT] (the first variant where none is named). Raises BadInput, BadModel, BadBundle."""
    name, file = read_model(str(where))
    path, _, variant = name.rpartition(":")
    if not path:
        return Subject(name, file.runtime, file.data)
    manifest = Bundle(Path(str(where).removesuffix(f":{variant}"))).manifest
    return Subject(name, file.runtime, file.data, manifest, next(v for v in manifest.variants if v.name == variant))


def answer(task: Task, splits: Splits, subject: Subject, inputs: np.ndarray, models: Isolated) -> Answered:
    """A bundle's answers are read as its manifest says, a file's as those to the task's validation rows show (as `build` does).
    Raises BadInput for a model that does not run on these rows, answers in another way than the task asks, or knows other classes."""
    output = (
        subject.manifest.output if subject.manifest else _fitted(task, splits, subject, respond(subject, splits.validation.inputs, models))
    )
    _check_kind(task, subject, output)
    outputs = respond(subject, inputs, models)
    if isinstance(output, Classification):
        outputs, output = _in_order(subject, outputs, output, splits.classes)
    else:
        _check_shape(subject, outputs, 1)
    return Answered(subject, outputs, output)


def respond(subject: Subject, inputs: np.ndarray, models: Isolated) -> np.ndarray:
    """float32 (rows, ...), as its graph gives them in real values. Raises BadInput naming the subject."""
    try:
        return _asked(subject, inputs, models)
    except BadInput as error:
        raise BadInput(f"{subject.name}: {error}", field=error.field, limit=error.limit) from error


def _asked(subject: Subject, inputs: np.ndarray, models: Isolated) -> np.ndarray:
    if subject.manifest is None:
        return models.ask(subject.name, running.answers, subject.runtime, subject.data, inputs)
    taken = inputs_of(subject.manifest.input)
    if len(taken) != 1:
        raise BadInput(f"{subject.name} takes {len(taken)} tensors, the task gives one", field="model", limit=1)
    fed = {taken[0].name: running.laid_out(inputs, taken[0].shape)}
    told = models.run(subject.manifest, subject.variant, subject.data, fed)
    return told[getattr(subject.manifest.output, "tensor", next(iter(told)))].astype(np.float32)


def _fitted(task: Task, splits: Splits, subject: Subject, outputs: np.ndarray) -> OutputSpec:
    """Of graphs made elsewhere many end in a softmax: their outputs are probabilities already."""
    if task.kind != "classification":
        return fit_answer(task, "output", outputs, splits.validation)
    _check_shape(subject, outputs, len(splits.classes))
    if len(outputs) and outputs.min() >= 0 and np.allclose(outputs.sum(axis=-1), 1, atol=_ROUNDED):
        return Classification("output", list(splits.classes), activation="none")
    return fit_answer(task, "output", outputs, splits.validation)


def _check_shape(subject: Subject, outputs: np.ndarray, values: int) -> None:
    if outputs[:1].size != min(1, len(outputs)) * values or (values > 1 and outputs.ndim != 2):
        told = f"{subject.name} answers with {list(outputs.shape[1:])} values a row, the task wants {values}"
        raise BadInput(told, field="model", limit=values)


_KINDS = {"classification": Classification, "regression": Regression, "anomaly": Anomaly}


def _check_kind(task: Task, subject: Subject, output: OutputSpec) -> None:
    if not isinstance(output, _KINDS[task.kind]):
        kind = type(output).__name__.lower()
        raise BadInput(f"{subject.name} answers with a {kind}; the task is a {task.kind}", field="model", limit=task.kind)


def _in_order(subject: Subject, outputs: np.ndarray, output: Classification, classes: tuple[str, ...]) -> tuple[np.ndarray, Classification]:
    """The task's order of classes, whatever the bundle's."""
    if sorted(output.classes) != sorted(classes):
        told = f"{subject.name} knows the classes {', '.join(output.classes[:8])}, the task {', '.join(classes[:8])}"
        raise BadInput(told, field="output.classes", limit=len(classes))
    _check_shape(subject, outputs, len(classes))
    if tuple(output.classes) == classes:
        return outputs, output
    at = [output.classes.index(name) for name in classes]
    return outputs[:, at], Classification(output.tensor, list(classes), output.activation, output.temperature)
