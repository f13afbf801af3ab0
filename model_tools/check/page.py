"""What a check has found, as a page to read."""

import numpy as np

from model_tools.check.checking import Checked
from model_tools.check.finding import SEVERITIES, Finding, Severity, Verdict
from model_tools.data.dataset import Splits
from model_tools.report import plots
from model_tools.report.markdown import plain
from model_tools.report.page import Note, Page, Part, Plot, Section, Table, Text
from model_tools.task import Task

_VERDICTS: dict[Severity, Verdict] = {"error": "failed", "warning": "warned", "note": "passed"}
_TITLES: dict[Severity, str] = {"error": "Errors", "warning": "Warnings", "note": "Notes"}
_LEADS: dict[Verdict, str] = {
    "passed": "Nothing was found that would make a score on this data untrue.",
    "warned": "A score on this data may be better than what a device will meet: look at the warnings.",
    "failed": "A score on this data would not be true: mend what is said here first.",
}
CARD_TITLE = "What its data may hide"
_MOST_COLUMNS = 200
_MOST_CLASSES = 50


def make_page(task: Task, splits: Splits, checked: Checked) -> Page:
    """Same data and findings, same page."""
    sections = [_list(severity, checked) for severity in SEVERITIES if any(f.severity == severity for f in checked.findings)]
    sections.append(_describe_parts(checked))
    if splits.columns:
        sections.append(_describe_columns(splits))
    facts = [("task", task.name), ("kind", task.kind), ("split by", checked.split_by), ("data", checked.sha256)]
    return Page(f"Data check: {task.name}", sections, _LEADS[checked.verdict], facts, checked.verdict)


def card_section(checked: Checked) -> str:
    """Markdown for a model's card; same findings, same text."""
    found = [finding for finding in checked.findings if finding.severity != "note"]
    if not found:
        return _LEADS["passed"]
    lines = [f"- {finding.severity}, {finding.code}: {plain(finding.message)}" for finding in found]
    return "\n".join([_LEADS[checked.verdict], "", *lines])


def _list(severity: Severity, checked: Checked) -> Section:
    found = [finding for finding in checked.findings if finding.severity == severity]
    return Section(_TITLES[severity], [part for finding in found for part in _tell(finding)])


def _tell(finding: Finding) -> list[Part]:
    note = Note(_VERDICTS[finding.severity], f"{finding.code}: {finding.message}")
    return [note, Text(f"For example: {', '.join(finding.examples)}")] if finding.examples else [note]


def _describe_parts(checked: Checked) -> Section:
    parts: list[Part] = [Table(("part", "rows"), [*checked.rows.items()])]
    counts = checked.counts["train"]
    if counts:
        head = ("class", *checked.rows)
        rows = [(name, *(checked.counts[part][name] for part in checked.rows)) for name in [*counts][:_MOST_CLASSES]]
        parts.append(Table(head, rows, _limited(len(counts), _MOST_CLASSES, "classes")))
    if 1 < len(counts) <= _MOST_CLASSES:
        parts.append(Plot(plots.bars(counts, "training rows"), "Training rows of each class"))
    return Section("Rows", parts)


def _describe_columns(splits: Splits) -> Section:
    values = np.concatenate([part.inputs.reshape(-1, len(splits.columns)) for part in splits.parts])
    rows = []
    for at, name in enumerate(splits.columns[:_MOST_COLUMNS]):
        column = values[:, at].astype(np.float64)
        low, middle, high = (float(value) for value in np.quantile(column, (0, 0.5, 1)))
        rows.append((name, low, middle, high, float(column.mean()), float(column.std()), len(np.unique(column))))
    head = ("column", "least", "median", "most", "mean", "deviation", "different values")
    return Section("Columns", [Table(head, rows, _limited(len(splits.columns), _MOST_COLUMNS, "columns"))])


def _limited(there: int, most: int, what: str) -> str:
    return f"The first {most} of {there} {what}." if there > most else ""
