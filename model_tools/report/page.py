"""A report as one HTML file: nothing in it is fetched, runs as a script or depends on when or where it was made."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Literal

Verdict = Literal["passed", "warned", "failed"]
_TEMPLATE = "page.html.j2"


@dataclass(frozen=True)
class Text:
    """A paragraph; no markup is read in it."""

    words: str


@dataclass(frozen=True)
class Note:
    """A sentence that stands out, by its verdict."""

    verdict: Verdict
    words: str


@dataclass(frozen=True)
class Table:
    """A row has as many cells as the head; a number is set to the right, a float in four digits, None is a dash."""

    head: Sequence[str]
    rows: Sequence[Sequence[str | float | int | None]]
    caption: str = ""


@dataclass(frozen=True)
class Plot:
    """`svg` is one of report/plots.py; `caption` also says it to those who do not see it."""

    svg: str
    caption: str


Part = Text | Note | Table | Plot


@dataclass(frozen=True)
class Section:
    title: str
    parts: Sequence[Part]


@dataclass(frozen=True)
class Page:
    """`facts` are digests, counts and names under the title; `verdict` None where nothing was judged."""

    title: str
    sections: Sequence[Section]
    lead: str = ""
    facts: Sequence[tuple[str, str]] = ()
    verdict: Verdict | None = None


def render(page: Page) -> bytes:
    """The HTML file, UTF-8: same page, same bytes. All words are escaped."""
    import jinja2
    import markupsafe

    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["cell"] = cell
    environment.filters["svg"] = markupsafe.Markup  # our own plots alone: see plots.py
    environment.tests["number"] = lambda value: isinstance(value, int | float) or value is None
    template = environment.from_string(files(__package__).joinpath(_TEMPLATE).read_text("utf-8"))
    return template.render(page=page, kind_of=lambda part: type(part).__name__).encode()


def cell(value: str | float | int | None) -> str:
    """A table's cell in words."""
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
