"""What a person should know of a data set before trusting a model of it (Gebru et al., Datasheets for Datasets, arXiv 1803.09010), as Markdown."""

from collections.abc import Iterator, Sequence

import numpy as np

from model_tools.data.dataset import Dataset, Splits
from model_tools.report.markdown import plain
from model_tools.task import Task

_WAYS = {
    "time": "by time: the newest rows are the test",
    "group": "by group: the rows of a group are all in one part",
    "order": "by order: the end of the file, or of each recording, is the test",
    "shares": "at random, each class in its share",
}
_PARTS = ("training", "validation", "test")
_SHOWN_COLUMNS = 200
_SHOWN_CLASSES = 200


def make_card(task: Task, splits: Splits) -> str:
    """Digest, shape, parts, classes or target, and the range of each column. The same data and task give the same text."""
    lines = [f"# Data of {task.name}", "", *([plain(task.description), ""] if task.description else []), *_facts(task, splits)]
    lines += ["", "## Parts", "", *_parts(splits), *_target(splits), *_columns(splits)]
    if splits.notes:
        lines += ["", "## Notes", "", *(f"- {plain(note)}" for note in splits.notes)]
    return "\n".join(lines) + "\n"


def _facts(task: Task, splits: Splits) -> list[str]:
    shape = splits.train.inputs.shape[1:]
    facts = {
        "SHA-256": f"`{splits.sha256}`",
        "kind of task": task.kind,
        "input": f"{type(task.input).__struct_config__.tag}, {' x '.join(map(str, shape))} values",
        "reader": type(task.data).__struct_config__.tag,
        "rows": str(sum(map(len, splits.parts))),
        "target": plain(task.target) + (f" ({plain(task.output.unit)})" if task.output.unit else ""),
        "split": _WAYS[splits.by],
    }
    return _table(("", ""), list(facts.items()))


def _parts(splits: Splits) -> list[str]:
    rows = []
    for name, part in zip(_PARTS, splits.parts, strict=True):
        groups = "" if part.groups is None else str(len({*part.groups}))
        spans = ("", "") if part.times is None else (f"{part.times.min():.10g}", f"{part.times.max():.10g}")
        rows.append((name, str(len(part)), groups, *spans, f"`{part.sha256[:16]}`"))
    return _table(("part", "rows", "groups", "first time", "last time", "SHA-256 begins"), rows)


def _target(splits: Splits) -> list[str]:
    if not splits.classes:
        rows = [(name, *_figures(part.labels)) for name, part in zip(_PARTS, splits.parts, strict=True)]
        return ["", "## Target", "", *_table(("part", "least", "median", "mean", "most", "deviation"), rows)]
    counts = [part.count() for part in splits.parts]
    rows = [(plain(name), *(str(count[name]) for count in counts)) for name in splits.classes[:_SHOWN_CLASSES]]
    return ["", "## Classes", "", *_table(("class", *_PARTS), rows), *_more(len(splits.classes), _SHOWN_CLASSES)]


def _columns(splits: Splits) -> Iterator[str]:
    if not splits.columns:
        values = _all(splits.parts)
        yield from ("", "## Pixels", "", *_table(("least", "median", "mean", "most", "deviation"), [_figures(values)]))
        return
    rows = []
    for at, column in enumerate(splits.columns[:_SHOWN_COLUMNS]):
        values = _all(splits.parts, at)
        rows.append((plain(column), *_figures(values), str(len(np.unique(values)))))
    yield from ("", "## Columns", "", *_table(("column", "least", "median", "mean", "most", "deviation", "distinct values"), rows))
    yield from _more(len(splits.columns), _SHOWN_COLUMNS)


def _all(parts: Sequence[Dataset], column: int | None = None) -> np.ndarray:
    """Every value of all parts, or of one column."""
    return np.concatenate([(part.inputs if column is None else part.inputs[..., column]).ravel() for part in parts])


def _figures(values: np.ndarray) -> tuple[str, ...]:
    wide = values.astype(np.float64)
    return tuple(f"{figure:.6g}" for figure in (wide.min(), np.median(wide), wide.mean(), wide.max(), wide.std()))


def _more(count: int, shown: int) -> list[str]:
    return ["", f"{count - shown} more are not shown."] if count > shown else []


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows)]
