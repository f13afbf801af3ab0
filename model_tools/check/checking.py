"""All rules over a task's data, and the verdict."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from model_tools.check.balance import check_balance
from model_tools.check.columns import check_columns
from model_tools.check.doubts import find_conflicts, find_doubts, find_repeats
from model_tools.check.drift import check_drift
from model_tools.check.finding import Finding, Verdict, accept, gather, judge
from model_tools.check.giveaway import find_giveaways
from model_tools.check.leakage import check_leakage
from model_tools.check.missing import count_missing, find_missing, skipping
from model_tools.check.nearness import find_near, find_shared_samples
from model_tools.check.serial import find_serial, measure_dependence
from model_tools.check.table import Table, lay_out
from model_tools.data.dataset import Splits
from model_tools.data.reading import read_splits
from model_tools.errors import GateFailed
from model_tools.sections import SplitBy
from model_tools.task import Task


@dataclass(frozen=True)
class Checked:
    """`findings` are the worst first. `rows` by part, `counts` of each class in each part (none of a regression). `sha256` is that of the data."""

    verdict: Verdict
    findings: tuple[Finding, ...]
    sha256: str
    split_by: SplitBy
    rows: Mapping[str, int]
    counts: Mapping[str, Mapping[str, int]]


def check_task(task: Task, strict: bool = False) -> tuple[Splits, Checked]:
    """Every rule on what the task names. Rows that miss a value are left out, and counted: where the task refuses them, that is an error.

    `strict`: warnings fail as well. Raises BadData for what cannot be read at all.
    """
    missing = count_missing(task)
    splits = read_splits(skipping(task))
    absent = find_missing(missing, refused=getattr(task.data, "missing", "skip") == "refuse")
    return splits, _judge(task, splits, [*absent, *_find(task, splits, quick=False)], strict)


def check_data(task: Task, splits: Splits, quick: bool = False) -> Checked:
    """Every rule, or with `quick` those that take about a second. Same data and task, same findings: what is sampled is drawn by split.seed."""
    return _judge(task, splits, _find(task, splits, quick), strict=False)


def _find(task: Task, splits: Splits, quick: bool) -> list[Finding]:
    table, seed = lay_out(splits), task.split.seed
    read = [Finding("reading", "warning", note) for note in splits.notes]
    found = [*read, *_look(table, seed), *check_balance(splits, task.kind, task.train.class_weights == "balanced")]
    if not quick:
        found += [*find_near(table, seed), *check_drift(table, seed, task.kind)]
        found += find_doubts(table, seed) if task.kind != "anomaly" else []
    return found


def _judge(task: Task, splits: Splits, found: Sequence[Finding], strict: bool) -> Checked:
    findings = accept(gather(found), task.check.accept)
    parts = dict(zip(("train", "validation", "test"), splits.parts, strict=True))
    return Checked(
        judge(findings, strict),
        findings,
        splits.sha256,
        splits.by,
        {name: len(part) for name, part in parts.items()},
        {name: part.count() for name, part in parts.items()},
    )


def heed(task: Task, checked: Checked, warn: Callable[[str], None]) -> None:
    """Say what a training should not start without. Raises GateFailed for errors where check.refuse is set."""
    for finding in checked.findings:
        if finding.severity != "note":
            warn(f"warning: {finding.code}: {finding.message}")
    if task.check.refuse and checked.verdict == "failed":
        raise GateFailed(reason(checked), field="check.refuse")


def reason(checked: Checked) -> str:
    """One sentence: which findings the verdict is due to."""
    worst = [finding for finding in checked.findings if finding.severity == checked.findings[0].severity]
    return f"the data has {len(worst)} findings that count: {', '.join(dict.fromkeys(finding.code for finding in worst))}"


def _look(table: Table, seed: int) -> list[Finding]:
    return [
        *check_leakage(table),
        *find_serial(measure_dependence(table, seed)),
        *find_shared_samples(table),
        *find_giveaways(table, seed),
        *check_columns(table, seed),
        *find_repeats(table),
        *find_conflicts(table),
    ]
