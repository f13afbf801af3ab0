"""What a model looks at, as a page and as a section of its card."""

import numpy as np

from model_tools.explain.explaining import Explained
from model_tools.explain.importance import Importance
from model_tools.explain.occlusion import Case, spread_over
from model_tools.report import plots
from model_tools.report.markdown import table
from model_tools.report.page import Page, Part, Plot, Section, Table, Text

CARD_TITLE = "What it looks at"
_SHOWN = 30
_IN_CARD = 10


def explanation_page(found: Explained) -> Page:
    facts = [("model", found.model), ("test rows", f"{found.rows:,}"), (found.measure, f"{found.quality:.4f}")]
    sections = [Section("The model as a whole", _whole(found))]
    sections += [Section(f"{case.id}: {case.answer}", _case(found, case, at)) for at, case in enumerate(found.cases)]
    return Page(f"{found.task}: {CARD_TITLE.lower()}", sections, lead=_caveat(found), facts=facts)


def card_section(found: Explained) -> str:
    """Markdown; same values, same text."""
    if found.importances:
        rows = [(one.name, _rounded(one.drop), _rounded(one.spread)) for one in found.importances[:_IN_CARD]]
        return f"{_caveat(found)}\n\n{table(('shuffled among the rows', f'{found.measure} lost', 'spread'), rows)}"
    share = found.maps["all"]
    most = float(np.abs(share).max()) or 1.0
    lines = [" ".join(f"{max(0.0, value) / most * 9:.0f}" for value in line) for line in share]
    lead = "Where answers lose most when that part of the picture is covered by the mean of all: 0 nothing, 9 most."
    return "\n".join([lead, "", "```", *lines, "```"])


def _caveat(found: Explained) -> str:
    if not found.importances:
        return f"What answers lose ({found.unit}) when a part of the picture is covered by the mean of the training pictures."
    return (
        f"What the model's {found.measure} loses when a column is shuffled among the rows, over five shuffles. It says what this model uses, "
        "not what causes the answer."
    )


def _whole(found: Explained) -> list[Part]:
    if found.importances:
        return _ranked(found, found.importances[:_SHOWN])
    drawn = [(name, _pixels(found.means[name]), _enlarged(found, weights)) for name, weights in found.maps.items()]
    return [Plot(plots.maps(drawn[:_SHOWN]), "Over all answers, and by class answered: red speaks for the answer, blue against it.")]


def _ranked(found: Explained, shown: list[Importance]) -> list[Part]:
    rows = [(one.name, one.drop, one.spread) for one in shown]
    told = [one for one in shown if one.drop] or shown
    drawn = plots.bars({one.name: one.drop for one in told}, f"{found.measure} lost", spread={one.name: one.spread for one in told})
    return [
        Plot(drawn, "The weightiest first; whiskers are a standard deviation."),
        Table(("part", f"{found.measure} lost", "spread"), rows),
    ]


def _case(found: Explained, case: Case, at: int) -> list[Part]:
    said = Text(f"Answer {case.answer}, label {case.label}; {found.unit}: {case.worth:.4g}.")
    inputs = found.shown.inputs[at]
    if inputs.ndim == 3:
        return [said, Plot(plots.maps([(case.id, _pixels(inputs), _enlarged(found, case.weights))]), "Red speaks for the answer.")]
    if inputs.ndim == 2:
        stretches = [f"{number + 1}" for number in range(len(case.weights))]
        drawn = plots.matrix(np.round(case.weights.T, 2), list(found.columns), stretches, ("stretch of time, the oldest first", ""))
        return [said, Plot(drawn, f"{found.unit} lost without each column in each stretch of the window.")]
    order = np.argsort(-np.abs(case.weights), kind="stable")[:_SHOWN]
    weights = {found.columns[i]: float(case.weights[i]) for i in order}
    table = Table(("column", "value", f"{found.unit} lost"), [(found.columns[i], float(inputs[i]), float(case.weights[i])) for i in order])
    return [said, Plot(plots.bars(weights, f"{found.unit} lost without it"), "Above 0 speaks for the answer."), table]


def _enlarged(found: Explained, weights: np.ndarray) -> np.ndarray:
    return spread_over(weights, *found.means["all"].shape[1:])


def _pixels(inputs: np.ndarray) -> np.ndarray:
    """(channels, height, width) as matplotlib draws it."""
    return inputs[0] if len(inputs) == 1 else inputs.transpose(1, 2, 0)


def _rounded(value: float) -> str:
    return f"{round(value, 3) + 0.0:.3f}"
