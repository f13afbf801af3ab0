"""Every measured figure of a comparison by one name, and the gates that a file sets on them."""

import difflib
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import msgspec

from fleet_contract.job import Gate
from model_tools.compare.comparing import Compared, worst
from model_tools.compare.measuring import Measured
from model_tools.errors import BadInput, BadTask
from model_tools.gates import Scores, judge
from model_tools.task import Task
from model_tools.toml_file import read_toml

_MOST_GATES = 200
_ROUNDING = 1e-9


class Limit(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Both ends are let in."""

    figure: Annotated[str, msgspec.Meta(min_length=1, max_length=1_000)]
    at_least: float | None = None
    at_most: float | None = None


class GateFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    gate: Annotated[list[Limit], msgspec.Meta(min_length=1, max_length=_MOST_GATES)]


def load_gates(path: Path) -> list[Limit]:
    """Raises BadTask naming the key."""
    gates = read_toml(path, GateFile)[0].gate
    for at, limit in enumerate(gates):
        if limit.at_least is None and limit.at_most is None:
            raise BadTask(f"gate {at + 1}, {limit.figure!r}, needs at_least or at_most", field=f"gate.{limit.figure}")
    return gates


def figures(found: Compared) -> dict[str, float]:
    """A's begin with `a.`, B's with `b.`; those without say how B differs from A. What was not measured is not there."""
    told = {
        "rows": float(found.rows),
        "agreement": found.between.agreement,
        "sqnr_db": found.between.sqnr_db,
        "quality_change": found.change.value,
        "quality_change_low": found.change.low,
        "quality_change_high": found.change.high,
        "chance": found.chance,
        **_of_one("a", found.one),
        **_of_one("b", found.other),
        **_costs(found),
        **{f"{part.by}.{part.part}.change": part.change for part in found.parts},
        **{f"layer.{layer.name}.snr_db": layer.snr_db for layer in found.layers},
    }
    if found.layers:
        told["worst_layer_snr_db"] = min(layer.snr_db for layer in found.layers)
    for name, parts in (("worst_class", True), ("worst_slice", False)):
        if (least := worst([part for part in found.parts if (part.by == "class") == parts])) is not None:
            told[f"{name}_change"] = least.change
    return {name: float(value) for name, value in told.items() if not math.isnan(value)}


def judge_figures(limits: list[Limit], measured: dict[str, float]) -> list[Gate]:
    """In the file's order. Raises BadTask for a figure that was not measured, naming the nearest that were."""
    judged = []
    for limit in limits:
        if limit.figure not in measured:
            near = difflib.get_close_matches(limit.figure, measured, 5, 0.3) or sorted(measured)[:8]
            raise BadTask(f"there is no figure {limit.figure!r}; near it: {', '.join(near)}", field="gate.figure", limit=", ".join(near))
        value = measured[limit.figure]
        if limit.at_least is not None:
            judged.append(_gate(limit.figure, value, limit.at_least, value >= limit.at_least - _ROUNDING, "at least"))
        if limit.at_most is not None:
            judged.append(_gate(limit.figure, value, limit.at_most, value <= limit.at_most + _ROUNDING, "at most"))
    return judged


def gates_of(task: Task, measured: Sequence[Measured]) -> list[Gate]:
    """The task's own gates on one model, or on a float model and its copy, of which the task prefers one."""
    first, last = measured[0].evaluation, measured[-1].evaluation
    preferred = first if task.quantize.prefer == "fp32" else last
    recalls = [*preferred.per_class.values()]
    judged = judge(task.gates, Scores(preferred.quality, first.quality - last.quality, preferred.rows, recalls, preferred.measure))
    return [gate for gate in judged if gate.name != "int8-drop" or len(measured) > 1]


def _gate(name: str, value: float, limit: float, passed: bool, which: str) -> Gate:
    return Gate(name, value, limit, passed, f"{name} is {value:.6g}, {which} {limit:.6g} is wanted")


def _of_one(letter: str, one: Measured) -> dict[str, float]:
    told = {
        "bytes": float(one.evaluation.model_bytes),
        "quality": one.quality.value,
        "quality_low": one.quality.low,
        "quality_high": one.quality.high,
        **one.evaluation.metrics,
        **{f"class.{name}": share for name, share in one.evaluation.per_class.items()},
    }
    if one.reliability is not None:
        told |= {"ece": one.reliability.ece, "nll": one.reliability.nll, "brier": one.reliability.brier}
    return {f"{letter}.{name}": value for name, value in told.items()}


def _costs(found: Compared) -> dict[str, float]:
    told = {"size_ratio": found.other.evaluation.model_bytes / max(1, found.one.evaluation.model_bytes)}
    if not found.timings:
        return told
    a, b = found.timings["A"], found.timings["B"]
    for letter, timing in (("a", a), ("b", b)):
        told |= {
            f"{letter}.p50_ms": timing.p50_ms,
            f"{letter}.p99_ms": timing.p99_ms,
            f"{letter}.load_ms": timing.load_ms,
            f"{letter}.memory_mb": timing.memory_mb,
        }
    told["latency_ratio"] = b.p50_ms / a.p50_ms if a.p50_ms else math.nan
    told["memory_ratio"] = b.memory_mb / a.memory_mb if a.memory_mb else math.nan
    return told


def check_wanted(limits: list[Limit], timed: bool) -> None:
    """Before anything is run. Raises BadInput where a gate asks for a time that nobody takes."""
    ends = ("_ms", "memory_mb", "latency_ratio", "memory_ratio")
    if not timed and (asked := [limit.figure for limit in limits if limit.figure.endswith(ends)]):
        raise BadInput(f"gate {asked[0]!r} needs timings", field="no-timing")
