"""What one answer takes, whatever the file's format: steps in order, the bytes of every tensor, multiplications."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Step:
    """One operator. `macs` are multiply-accumulates; operators that only touch their values count none."""

    operator: str
    inputs: Sequence[str]
    outputs: Sequence[str]
    macs: int


@dataclass(frozen=True)
class Workload:
    """Of one row. `activation_bytes` of every tensor that is no weight; `unknown` are tensors with an axis that nobody tells before a run."""

    steps: Sequence[Step]
    inputs: Sequence[str]
    outputs: Sequence[str]
    activation_bytes: Mapping[str, int]
    weight_bytes: int
    unknown: Sequence[str]

    @property
    def macs(self) -> int:
        return sum(step.macs for step in self.steps)

    @property
    def moved_bytes(self) -> int:
        """Read and written at least: every weight once, every activation as often as a step takes or gives it."""
        return self.weight_bytes + sum(self.activation_bytes.get(name, 0) for step in self.steps for name in (*step.inputs, *step.outputs))

    @property
    def operators(self) -> dict[str, int]:
        counts: dict[str, int] = {}
        for step in self.steps:
            counts[step.operator] = counts.get(step.operator, 0) + 1
        return counts


def peak_bytes(work: Workload) -> int:
    """The most that activations take at once where each lives from the step that gives it to the last that takes it, and no step works in place: what
    an engine's memory planner stays below, alignment apart."""
    last = {name: at for at, step in enumerate(work.steps) for name in step.inputs}
    last |= {name: len(work.steps) for name in work.outputs}
    alive = set(work.inputs)
    peak = _sum(work, alive)
    for at, step in enumerate(work.steps):
        alive |= {*step.outputs}
        peak = max(peak, _sum(work, alive))
        alive = {name for name in alive if last.get(name, -1) > at}
    return peak


def _sum(work: Workload, names: set[str]) -> int:
    return sum(work.activation_bytes.get(name, 0) for name in names)
