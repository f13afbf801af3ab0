"""What a model costs to run here: latency, time to load, memory. Contenders take turns, so that a busy machine bends all of them alike."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fleet_contract.tensors import ANY, STRING
from model_tools.adopt.isolation import Bounds, isolated
from model_tools.errors import BadInput
from model_tools.graphs import Graph, GraphTensor, open_graph
from model_tools.model_files import ModelFile
from model_tools.running import Tensors, entering

_WARM_CALLS = 10
_ROUNDS = 200
_LOADS = 3
_KIB_PER_MB = 1024
_PSS = "Pss:"


@dataclass(frozen=True)
class Timing:
    """Of one model alone: half and 99 of 100 calls take at most `p50_ms`, `p99_ms`; `load_ms` is the best of three loads. `memory_mb` is what a fresh
    process grows by (PSS) while it loads the model and answers once; NaN where the system does not tell."""

    p50_ms: float
    p99_ms: float
    load_ms: float
    memory_mb: float
    rows: int


def time_models(
    models: Mapping[str, ModelFile],
    inputs: Tensors | None = None,
    *,
    threads: int = 1,
    rounds: int = _ROUNDS,
    memory: bool = True,
    bounds: Bounds = Bounds(),
    clock: Callable[[], int] = time.perf_counter_ns,
) -> dict[str, Timing]:
    """Each model `rounds` times with `inputs` (by each graph's own tensor names, or of one tensor by any name; None: one row of made-up values), in
    turns within one bounded child process; `memory` in a fresh child each, or NaN. Raises BadInput naming a model that does not run."""
    with isolated(bounds) as child:
        found = child.ask("+".join(models), _take_turns, models, inputs, threads, rounds, clock)
    grown = {name: _memory_of(name, model, inputs, threads, bounds) if memory else math.nan for name, model in models.items()}
    return {name: _timing(calls_ns, load_ns, grown[name], rows) for name, (calls_ns, load_ns, rows) in found.items()}


def made_up(tensors: Mapping[str, GraphTensor], rows: int = 1) -> dict[str, np.ndarray]:
    """Values that any graph takes: seeded noise for floats, zeros for the rest; open axes are `rows`, behind the first 1.
    Raises BadInput for a tensor of text."""
    rng = np.random.default_rng(0)
    fed = {}
    for name, tensor in tensors.items():
        if tensor.dtype in (STRING, "string", "object"):
            raise BadInput(f"input {name!r} takes text: it cannot be timed without samples", field=name)
        shape = [axis if axis != ANY else (1 if at else rows) for at, axis in enumerate(tensor.shape)]
        values = rng.normal(size=shape) if np.dtype(tensor.dtype).kind == "f" else np.zeros(shape)
        fed[name] = values.astype(tensor.dtype)
    return fed


def _take_turns(
    models: Mapping[str, ModelFile], inputs: Tensors | None, threads: int, rounds: int, clock: Callable[[], int]
) -> dict[str, tuple[list[int], int, int]]:
    """In the child. Of each model: nanoseconds of each call, nanoseconds to load, rows."""
    loads = {name: min(_load_ns(model, threads, clock) for _ in range(_LOADS)) for name, model in models.items()}
    opened = {name: open_graph(model.runtime, model.data, threads=threads) for name, model in models.items()}
    fed = {name: _fitting(graph, inputs) for name, graph in opened.items()}
    for name, graph in opened.items():
        for _ in range(_WARM_CALLS):
            graph.run(fed[name], [*graph.outputs])
    calls: dict[str, list[int]] = {name: [] for name in models}
    for _ in range(rounds):
        for name, graph in opened.items():
            begun = clock()
            graph.run(fed[name], [*graph.outputs])
            calls[name].append(clock() - begun)
    return {name: (calls[name], loads[name], _rows(fed[name])) for name in models}


def _load_ns(model: ModelFile, threads: int, clock: Callable[[], int]) -> int:
    begun = clock()
    open_graph(model.runtime, model.data, threads=threads)
    return clock() - begun


def _memory_of(name: str, model: ModelFile, inputs: Tensors | None, threads: int, bounds: Bounds) -> float:
    with isolated(bounds) as child:
        return child.ask(name, _grow, model, inputs, threads)


def _grow(model: ModelFile, inputs: Tensors | None, threads: int) -> float:
    """In the child: megabytes."""
    _load_engine(model.runtime)
    before = _pss_kib()
    graph = open_graph(model.runtime, model.data, threads=threads)
    graph.run(_fitting(graph, inputs), [*graph.outputs])
    return float(np.maximum(0.0, _pss_kib() - before)) / _KIB_PER_MB


def _load_engine(runtime: str) -> None:
    """The engine's own code is no part of a model."""
    if runtime == "onnxruntime":
        import onnxruntime  # noqa: F401
    else:
        import ai_edge_litert.interpreter  # noqa: F401


def _pss_kib() -> float:
    try:
        lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    except OSError:
        return float("nan")
    return next((float(line.split()[1]) for line in lines if line.startswith(_PSS)), float("nan"))


def _fitting(graph: Graph, inputs: Tensors | None) -> dict[str, np.ndarray]:
    """The inputs under the graph's own names and in its types."""
    if inputs is None:
        return made_up(graph.inputs)
    named = dict(inputs)
    if len(graph.inputs) == len(named) == 1:
        named = {next(iter(graph.inputs)): next(iter(named.values()))}
    if missing := [name for name in graph.inputs if name not in named]:
        raise BadInput(f"the model wants an input {missing[0]!r}; given are {', '.join(named)}", field=missing[0])
    return {name: entering(named[name], tensor) for name, tensor in graph.inputs.items()}


def _rows(fed: Tensors) -> int:
    first: Sequence = next(iter(fed.values()), ())
    return len(first) if np.ndim(first) else 1


def _timing(calls_ns: Sequence[int], load_ns: int, memory_mb: float, rows: int) -> Timing:
    p50, p99 = np.percentile(np.array(calls_ns) / 1e6, (50, 99))
    return Timing(float(p50), float(p99), load_ns / 1e6, memory_mb, rows)
