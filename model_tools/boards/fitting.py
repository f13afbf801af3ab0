"""A model and a board together: looks at the model in a bounded child, times it where this machine is of the board's architecture, and judges."""

import platform
from dataclasses import dataclass

from firmware_profiles import catalog
from firmware_profiles.catalog import Profile, ProfileError
from model_tools.adopt.isolation import Bounds, isolated
from model_tools.boards.verdict import Subject, Verdict, judge
from model_tools.boards.workload import Workload
from model_tools.errors import BadInput
from model_tools.evaluate.timing import Timing, time_models
from model_tools.model_files import ModelFile

_ROUNDS = 50


@dataclass(frozen=True)
class Limits:
    """None: nobody set one."""

    memory_mb: float | None = None
    latency_ms: float | None = None


@dataclass(frozen=True)
class Fitted:
    """`timing` None: this machine is of another architecture than the board, or nobody asked."""

    verdict: Verdict
    timing: Timing | None


def fits(name: str, model: ModelFile, board: str, limits: Limits = Limits(), *, measure: bool = True, bounds: Bounds = Bounds()) -> Fitted:
    """Whether the model runs on the board: `board` names a hardware profile. Raises BadInput for an unknown one, and for a model that does not open."""
    profile = _profile(board)
    with isolated(bounds) as child:
        work, precision = child.ask(name, _look, model.runtime, model.data)
    timing = None
    if measure and platform.machine() == profile.architecture:
        timing = time_models({name: model}, threads=profile.worker.threads, rounds=_ROUNDS, bounds=bounds)[name]
    subject = Subject(model.runtime, precision, len(model.data), work, limits.memory_mb, limits.latency_ms)
    return Fitted(judge(subject, profile, timing and timing.p50_ms), timing)


def _profile(board: str) -> Profile:
    try:
        return catalog.load(board)
    except ProfileError as error:
        raise BadInput(str(error), field="profile", limit=", ".join(catalog.names())) from error


def _look(runtime: str, data: bytes) -> tuple[Workload, str]:
    """In the child, which no board's engine need share: it opens the file to be sure that one does."""
    from model_tools.boards import litert_workload, onnx_workload
    from model_tools.graphs import open_graph
    from model_tools.importing.onnx_graphs import precision_of

    open_graph(runtime, data)
    if runtime == "onnxruntime":
        return onnx_workload.workload_of(data), precision_of(data)
    work = litert_workload.workload_of(data)
    return work, litert_workload.precision_of(data)
