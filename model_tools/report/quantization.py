"""A search for the best recipe as a report."""

from collections.abc import Sequence

from model_tools.quantize.search import Measured, Search
from model_tools.report.page import Note, Page, Plot, Section, Table, Text
from model_tools.report.plots import scatter

HEAD = ("recipe", "quality", "agreement", "SQNR dB", "bytes", "times smaller", "ms a row", "")


def search_rows(found: Search) -> list[tuple[str | float | int | None, ...]]:
    """As HEAD says, the float model first."""
    return [_row(one, found) for one in found.tried]


def search_page(found: Search, task: str) -> Page:
    """The same search, the same page."""
    warnings = [Note("warning", words) for words in found.warnings]
    points = {"on the front": _points(found.front), "beaten": _points([one for one in found.tried if one not in found.front])}
    plot = Plot(
        scatter({name: at for name, at in points.items() if len(at[0])}, ("bytes", "ms a row")),
        "Size and latency: to the lower left is better.",
    )
    table = Table(HEAD, search_rows(found), "Quality on the task's validation rows; latency of one row here, half of all calls.")
    chosen = Text(
        f"Chosen: {found.chosen.title}, the smallest of the fastest that cost no more than the budget and are not slower than float."
    )
    facts = [("task", task), ("threads", str(found.threads)), ("recipes", str(len(found.tried)))]
    return Page("Quantization", [Section("Recipes", [chosen, table, plot, *warnings])], facts=facts)


def _row(one: Measured, found: Search) -> tuple[str | float | int | None, ...]:
    judged, plain = one.judged, found.tried[0].judged
    marks = [
        *(["chosen"] if one is found.chosen else []),
        *(["front"] if one in found.front else []),
        *(["slower than float"] if one.slower else []),
    ]
    sqnr = round(judged.sqnr_db, 1) if judged.sqnr_db != float("inf") else None
    shares = (round(judged.quality, 4), round(judged.agreement, 4), sqnr)
    return (one.title, *shares, judged.bytes, round(plain.bytes / judged.bytes, 2), round(one.latency_ms, 4), ", ".join(marks))


def _points(measured: Sequence[Measured]) -> tuple[list[float], list[float]]:
    return [float(one.judged.bytes) for one in measured], [one.latency_ms for one in measured]
