"""Packs models that were made elsewhere. Whatever opens them does so in a child process: an engine that crashes, hangs or swells ends there."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from fleet_contract.bundle import Bundle
from fleet_contract.job import Progress
from model_tools.adopt.isolation import Bounds, isolated
from model_tools.build import Built, Candidate, Tell, measure, release
from model_tools.data.dataset import Splits
from model_tools.model_files import ModelFile
from model_tools.pack.further import further_variant
from model_tools.task import Task


@dataclass(frozen=True)
class Files:
    """`int8` None: the bundle has one variant; `further` are TFLite files of the same model; `source` is what importing.record.origin_of says."""

    fp32: ModelFile
    int8: ModelFile | None = None
    further: Sequence[ModelFile] = ()
    source: str | None = None


def pack_models(
    task: Task, splits: Splits, files: Files, version: str, tell: Tell, parent: Path | None = None, bounds: Bounds = Bounds()
) -> Built:
    """The bundle of models that pass the task's gates. Raises GateFailed, BadInput (a model that does not run, or not within `bounds`), BadModel
    and the errors of make_bundle; BadBundle for a `parent` that is none."""
    if parent is not None:
        Bundle(parent)
    with isolated(bounds) as child:
        tell(Progress("evaluate", 0.1, "on held-out data"))
        candidate = child.ask("model", measure, task, splits, files.fp32.data, (files.int8 or files.fp32).data)
        further = [further_variant(task, splits, candidate, file.data, bounds) for file in files.further]
        candidate = replace(candidate, further=further, source=files.source)
        tell(Progress("pack", 0.6, "known answers, reference, card"))
        built = child.ask("model", _released, task, splits, candidate, version, parent)
    tell(Progress("done", 1.0, f"all {len(built.gates)} gates passed"))
    return built


def _released(task: Task, splits: Splits, candidate: Candidate, version: str, parent: Path | None) -> Built:
    return release(task, splits, candidate, version, lambda progress: None, Bundle(parent) if parent else None)
