"""From a task to a packed bundle: train, export, quantize, evaluate, judge, pack. Each step is also a function of its own."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version as installed_version
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from fleet_contract import names
from fleet_contract.bundle import Bundle
from fleet_contract.inputs import InputSpec
from fleet_contract.job import Gate, Progress
from fleet_contract.manifest import Lineage, Policy
from fleet_contract.outputs import OutputSpec
from model_tools import workbench
from model_tools.check import page as check_page
from model_tools.check.checking import heed
from model_tools.errors import GateFailed
from model_tools.explain.explaining import Explained, explain_answers
from model_tools.gates import Scores, judge, reason
from model_tools.pack.archive import Contents, Evidence, Model, make_bundle
from model_tools.pack.reference import check_followable
from model_tools.quantize.judging import allowed_drop
from model_tools.quantize.preference import prefers_int8
from model_tools.report.explanation import CARD_TITLE, card_section

if TYPE_CHECKING:
    from model_tools.workbench import Comparison, Dataset, Evaluation, Splits, Task, Trained

Tell = Callable[[Progress], None]

_MADE_WITH = ("torch", "onnx", "onnxscript")
"""Distributions that had a hand in the bytes."""


@dataclass(frozen=True)
class Candidate:
    """A trained model in both precisions, measured on the task's test data; both are the same bytes where there is no int8. `prefer` is the precision
    that devices should run; `further` are more variants; `source` says what the model was imported from."""

    spec: InputSpec
    output: OutputSpec
    fp32: bytes
    int8: bytes
    fp32_test: "Evaluation"
    int8_test: "Evaluation"
    comparison: "Comparison"
    prefer: str
    run: str
    further: Sequence[Model] = ()
    source: str | None = None

    def models(self) -> Sequence[Model]:
        """The preferred one first."""
        if self.int8 == self.fp32:
            return (Model("fp32", self.fp32), *self.further)
        both = (Model("int8", self.int8), Model("fp32", self.fp32))
        return (*(both if self.prefer == "int8" else both[::-1]), *self.further)

    def scores(self) -> Scores:
        """Without a champion."""
        preferred = self._preferred()
        recalls = list(preferred.per_class.values())
        return Scores(preferred.quality, self.comparison.quality_drop, preferred.rows, recalls, preferred.measure)

    def _preferred(self) -> "Evaluation":
        return self.int8_test if self.prefer == "int8" else self.fp32_test


@dataclass(frozen=True)
class Built:
    bundle: bytes
    gates: Sequence[Gate]
    metrics: dict[str, float]


def build(task: "Task", version: str, tell: Tell) -> Built:
    """A first bundle of this task, without a parent. Raises GateFailed when the model is not good enough, BadName and the task's and data's errors."""
    names.name(version, "version")
    tell(Progress("data", 0.0, "reading the task's data"))
    splits = workbench.read_splits(task)
    check_followable(workbench.input_spec(task, splits), workbench.output_outline(task, splits))
    heed(task, workbench.check_data(task, splits, quick=True), lambda warning: tell(Progress("data", 0.05, warning)))
    trained = workbench.train(task, splits, staged(tell, "train", 0.05, 0.8))
    return release(task, splits, convert(task, splits, trained, None, tell), version, tell)


def release(task: "Task", splits: "Splits", candidate: Candidate, version: str, tell: Tell, parent: Bundle | None = None) -> Built:
    """The bundle of a candidate that passes the task's gates. Raises GateFailed for one that does not."""
    judged = judge(task.gates, candidate.scores())
    if not all(gate.passed for gate in judged):
        raise GateFailed(reason(judged))
    tell(Progress("pack", 0.95, "known answers, reference, card"))
    metrics = measured(candidate)
    made = contents(task, splits, candidate, version, metrics, parent.sha256 if parent else None)
    data = make_bundle(made, evidence(task, splits, candidate.spec.tensor), parent)
    tell(Progress("done", 1.0, reason(judged)))
    return Built(data, judged, metrics)


def convert(task: "Task", splits: "Splits", trained: "Trained", new: "Dataset | None", tell: Tell) -> Candidate:
    """Export, quantize (calibrated also on `new` labels, where given) and evaluate both precisions."""
    tell(Progress("export", 0.8, "to ONNX"))
    fp32 = workbench.export_onnx(trained, workbench.input_spec(task, splits, new))
    tell(Progress("quantize", 0.84, "to int8"))
    made = workbench.quantize(task, splits, fp32, new)
    for warning in made.warnings:
        tell(Progress("quantize", 0.88, f"warning: {warning}"))
    tell(Progress("evaluate", 0.9, "both on held-out data"))
    return measure(task, splits, fp32, made.model, new, trained.run)


def measure(task: "Task", splits: "Splits", fp32: bytes, int8: bytes, new: "Dataset | None" = None, run: str | None = None) -> Candidate:
    """Both precisions on the task's test data; the bounds of the input also let `new` in. `run` is the training's; None: a first one's."""
    output = workbench.output_spec(task, splits, fp32, new)
    one, other = (workbench.evaluate(model, splits.test, output) for model in (fp32, int8))
    spec, compared = workbench.input_spec(task, splits, new), workbench.compare(one, other, output)
    prefer = _prefer(task, splits, (fp32, int8), output)
    return Candidate(spec, output, fp32, int8, one, other, compared, prefer, run or workbench.first_run(task, splits))


def _prefer(task: "Task", splits: "Splits", models: tuple[bytes, bytes], output: OutputSpec) -> str:
    """By the validation rows: a choice that the test rows made would flatter what they measure."""
    if task.quantize.prefer != "auto":
        return task.quantize.prefer
    fp32, int8 = (workbench.evaluate(model, splits.validation, output) for model in models)
    drop = workbench.compare(fp32, int8, output).quality_drop
    return "int8" if prefers_int8(models[0], drop, allowed_drop(task, splits)) else "fp32"


def measured(candidate: Candidate) -> dict[str, float]:
    """What the bundle's lineage and card say of a candidate alone."""
    metrics = {
        "test_rows": float(candidate.fp32_test.rows),
        **{f"fp32_{name}": value for name, value in candidate.fp32_test.metrics.items()},
    }
    if candidate.int8 != candidate.fp32:
        metrics |= _measured_int8(candidate)
    # JSON has no infinity: two models that agree to the last bit have no noise ratio
    return {name: value for name, value in metrics.items() if math.isfinite(value)}


def _measured_int8(candidate: Candidate) -> dict[str, float]:
    return {
        **{f"int8_{name}": value for name, value in candidate.int8_test.metrics.items()},
        "int8_agreement": candidate.comparison.agreement,
        "int8_sqnr_db": candidate.comparison.sqnr_db,
    }


def contents(
    task: "Task",
    splits: "Splits",
    candidate: Candidate,
    version: str,
    metrics: dict[str, float],
    parent: str | None = None,
    job: str | None = None,
) -> Contents:
    """What the bundle says of itself; `parent` is the champion's SHA-256."""
    return Contents(
        task=task.name,
        version=version,
        description=task.description,
        input=candidate.spec,
        output=candidate.output,
        models=candidate.models(),
        profiles=task.profiles,
        limits=task.limits,
        policy=task.policy if task.kind == "classification" else never_retrained(task.policy),
        lineage=Lineage(
            task_sha256=task.sha256,
            data_sha256=splits.sha256,
            seed=task.train.seed,
            code=f"edgefleet {installed_version('edgefleet')}",
            parent=parent,
            job=job,
            metrics=metrics,
            run=candidate.run if candidate.source is None else msgspec.UNSET,
            source=msgspec.UNSET if candidate.source is None else candidate.source,
        ),
        made_with=_MADE_WITH if candidate.source is None else (),
        sections={
            check_page.CARD_TITLE: check_page.card_section(workbench.check_data(task, splits, quick=True)),
            CARD_TITLE: card_section(_explain(task, splits, candidate)),
        },
    )


def _explain(task: "Task", splits: "Splits", candidate: Candidate) -> Explained:
    model = candidate.models()[0].data
    return explain_answers(task, splits, lambda rows: workbench.logits(model, rows), candidate.output, "model")


def never_retrained(policy: Policy) -> Policy:
    """By itself, that is: what people can say of an input in a word is no target of these tasks."""
    return msgspec.structs.replace(policy, retrain=msgspec.structs.replace(policy.retrain, automatic=False))


def evidence(task: "Task", splits: "Splits", tensor: str) -> Evidence:
    """Held out is what no weight was fitted to: validation and test rows. Healthy are all, but where anomalies are sought the normal ones:
    devices see few others, and data sets hold many."""
    held_out = splits.validation.join(splits.test)
    if task.kind != "anomaly":
        return Evidence(known={tensor: splits.train.join(held_out).inputs}, held_out={tensor: held_out.inputs})
    healthy = np.flatnonzero(held_out.labels == 0)
    known = np.concatenate([splits.train.inputs[splits.train.labels == 0], held_out.inputs[healthy]])
    return Evidence({tensor: known}, {tensor: held_out.inputs}, healthy)


def staged(tell: Tell, stage: str, start: float, end: float) -> Callable[[float, str], None]:
    """Progress of one step, 0..1, as a part of the whole."""
    return lambda share, message: tell(Progress(stage, start + (end - start) * min(max(share, 0.0), 1.0), message))
