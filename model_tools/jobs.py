"""One retraining job: old data and new labels, champion against challenger on both, gates, a signed bundle.

The server starts it as a process of its own and reads its folder afterwards; see fleet_contract/job.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from fleet_contract import limits, names
from fleet_contract.bundle import Bundle
from fleet_contract.job import RESULT, Gate, JobResult, JobSpec, Progress, read_spec
from fleet_contract.outputs import Classification
from fleet_contract.sketch import Condition, decode_reference
from model_tools import workbench
from model_tools.build import Candidate, Tell, contents, convert, evidence, measured, staged
from model_tools.delta.making import make as make_delta
from model_tools.errors import BadInput, GateFailed
from model_tools.gates import Scores, judge, reason
from model_tools.pack.archive import make_bundle
from model_tools.pack.reference import accept
from model_tools.sign.releases import LIFETIME, load_key, released_bundles, sign_releases
from model_tools.storage import write_whole

if TYPE_CHECKING:
    from model_tools.workbench import Dataset, Evaluation, Splits, Task

_RELEASES = "next-releases.json"


@dataclass(frozen=True)
class Ground:
    """What a job stands on, once it is read and fits together. `fit` and `held` are the new labels: the challenger learns from the first
    and both models are judged on the second. None where there are no labels."""

    spec: JobSpec
    task: "Task"
    splits: "Splits"
    champion: Bundle
    condition: Condition | None
    fit: "Dataset | None"
    held: "Dataset | None"


def run_job(folder: Path, tell: Tell, now: datetime) -> JobResult:
    """Do the job in `folder` and leave result.json there, also for a challenger that a gate refuses (nothing is signed then).

    Raises BadJob, BadName, BadTask, BadData, BadInput or BadBundle for a job that cannot be done as it is; then there is no result.json.
    """
    tell(Progress("data", 0.0, "reading the task's data, the champion and the samples"))
    ground = prepare(folder)
    candidate = _challenge(ground, tell)
    scores = compare(ground, candidate)
    judged = judge(ground.task.gates, scores)
    metrics = {**measured(candidate), **_against(ground, scores)}
    try:
        if not all(gate.passed for gate in judged):
            raise GateFailed(reason(judged))
        tell(Progress("pack", 0.95, "known answers, reference, card, signature"))
        result = _release(folder, ground, candidate, judged, metrics, now, tell)
    except GateFailed as error:
        result = JobResult(accepted=False, reason=str(error), gates=judged, metrics=metrics)
    write_whole(folder / RESULT, msgspec.json.encode(result))
    tell(Progress("done", 1.0, result.reason))
    return result


def prepare(folder: Path) -> Ground:
    """Read and check everything that the job names, its key too, before any work is spent."""
    spec = read_spec(folder)
    names.name(spec.bundle_version, "bundle_version")
    load_key(Path(spec.releases_key))
    task = workbench.load_task(Path(spec.task_file))
    champion = _read_champion(Path(spec.champion))
    condition = _read_condition(Path(spec.condition), champion) if spec.condition else None
    splits = workbench.read_splits(task)
    _check_fit(task, splits, champion)
    fit = held = None
    if spec.samples:
        fit, held = workbench.split_new(task, workbench.read_samples(task, splits, folder, spec.samples))
    return Ground(spec, task, splits, champion, condition, fit, held)


def compare(ground: Ground, candidate: Candidate) -> Scores:
    """Champion's and challenger's preferred variants, on the task's test data and on the held-out new labels."""
    preferred = ground.champion.read(ground.champion.manifest.variants[0].entry)
    new = ground.held if ground.held is not None and len(ground.held) else None
    its_output = ground.champion.manifest.output
    return replace(
        candidate.scores(),
        new=_told_rightly(workbench.evaluate(candidate.models()[0].data, new, candidate.output)) if new else None,
        champion_old=_told_rightly(workbench.evaluate(preferred, ground.splits.test, its_output)),
        champion_new=_told_rightly(workbench.evaluate(preferred, new, its_output)) if new else None,
    )


def _told_rightly(found: "Evaluation") -> float:
    """Of anomalies the area under the ROC curve would not show a threshold that calls all of a new state odd."""
    if found.measure not in ("auc", "passed"):
        return found.quality
    return sum(found.per_class.values()) / len(found.per_class)


def _challenge(ground: Ground, tell: Tell) -> Candidate:
    progress = staged(tell, "train", 0.05, 0.8)
    if ground.fit is None:
        trained = workbench.train(ground.task, ground.splits, progress)
    else:
        trained = workbench.retrain(ground.task, ground.splits, ground.fit, progress)
    return convert(ground.task, ground.splits, trained, ground.fit, tell)


def _release(
    folder: Path, ground: Ground, candidate: Candidate, judged: Sequence[Gate], metrics: dict[str, float], now: datetime, tell: Tell
) -> JobResult:
    spec = ground.spec
    made = contents(ground.task, ground.splits, candidate, spec.bundle_version, metrics, ground.champion.sha256, spec.job)
    data = make_bundle(made, evidence(ground.task, ground.splits, candidate.spec.tensor), ground.champion, ground.condition)
    current, key = _read(Path(spec.releases), "releases"), load_key(Path(spec.releases_key))
    deltas = _deltas(ground, data, tell) if ground.champion.sha256 in released_bundles(current, key) else {}
    name = f"{made.task}-{made.version}.bundle"
    files = {name: data, _RELEASES: sign_releases(current, data, key, now + LIFETIME, list(deltas.values())), **deltas}
    for file, body in files.items():
        write_whole(folder / file, body)
    return JobResult(
        accepted=True, reason=reason(judged), gates=list(judged), metrics=metrics, bundle=name, releases=_RELEASES, deltas=list(deltas)
    )


def _deltas(ground: Ground, data: bytes, tell: Tell) -> dict[str, bytes]:
    """From the champion, which most devices hold: by file name, none when it would save too little."""
    made = make_delta(Path(ground.spec.champion).read_bytes(), data, staged(tell, "delta", 0.96, 1.0))
    return {} if made is None else {f"from-{ground.champion.sha256[:16]}.delta": made}


def _against(ground: Ground, scores: Scores) -> dict[str, float]:
    metrics = {
        "champion_old": scores.champion_old,
        "challenger_old": scores.told_rightly,
        "champion_new": scores.champion_new,
        "challenger_new": scores.new,
        "labels_fit": None if ground.fit is None else float(len(ground.fit)),
        "labels_held": None if ground.held is None else float(len(ground.held)),
    }
    return {name: value for name, value in metrics.items() if value is not None}


def _check_fit(task: "Task", splits: "Splits", champion: Bundle) -> None:
    manifest = champion.manifest
    if manifest.task != task.name:
        raise BadInput(f"the champion is of task {manifest.task!r}, the task file of {task.name!r}", field="champion")
    outline = workbench.output_outline(task, splits)
    if type(manifest.output) is not type(outline):
        raise BadInput("the champion answers otherwise than the task wants: build a new bundle instead", field="champion")
    if isinstance(outline, Classification) and manifest.output.classes != outline.classes:
        raise BadInput("the champion knows other classes than the task's data: build a new bundle instead", field="champion")


def _read_champion(path: Path) -> Bundle:
    try:
        return Bundle(path)
    except OSError as error:
        raise BadInput(f"cannot read the champion {path}: {error.strerror}", field="champion") from error


def _read_condition(path: Path, champion: Bundle) -> Condition:
    try:
        condition = msgspec.msgpack.decode(_read(path, "condition"), type=Condition)
    except (ValueError, RecursionError) as error:
        raise BadInput(f"malformed condition: {error}", field="condition") from error
    return accept(condition, decode_reference(champion.read(champion.manifest.reference)).grid)


def _read(path: Path, field: str) -> bytes:
    try:
        if path.stat().st_size > limits.MAX_REFERENCE_BYTES:
            raise BadInput(f"{path} is too large", field=field, limit=limits.MAX_REFERENCE_BYTES)
        return path.read_bytes()
    except OSError as error:
        raise BadInput(f"cannot read {path}: {error.strerror}", field=field) from error
