"""Reports: one file, nothing fetched, the same bytes for the same values, and words that stay words."""

import re
from html.parser import HTMLParser

import numpy as np
import pytest

from model_tools.report import plots
from model_tools.report.markdown import plain
from model_tools.report.page import Note, Page, Plot, Section, Table, Text, cell, render

HOSTILE = "<script>alert(1)</script> $x_{$ 温度 & \"'"

PLOTS = [
    pytest.param(lambda: plots.bars({HOSTILE: 0.3, "b": -0.1}, "drop", spread={"b": 0.1}, limit=0.2), id="bars"),
    pytest.param(lambda: plots.lines([0, 0.5, 1], {HOSTILE: [0, 0.4, 1], "b": [0, 1, 1]}, ("x", "y")), id="lines"),
    pytest.param(
        lambda: plots.scatter({"a": (np.arange(3.0), np.arange(3.0))}, (HOSTILE, "y"), named=[HOSTILE], diagonal=True), id="scatter"
    ),
    pytest.param(lambda: plots.histogram({"a": np.arange(9.0), HOSTILE: np.array([np.nan, 1.0])}, "x"), id="histogram"),
    pytest.param(lambda: plots.matrix(np.eye(2), [HOSTILE, "b"], ["a", HOSTILE], ("said", "is")), id="matrix"),
    pytest.param(lambda: plots.maps([(HOSTILE, np.full((8, 8), 9), np.eye(8))]), id="maps"),
]


def page() -> Page:
    parts = [Text(HOSTILE), Note("warned", HOSTILE), Table(("name", HOSTILE), [(HOSTILE, 0.5), ("none", None)], caption="c")]
    plot = Plot(plots.bars({HOSTILE: 1.0}, "x"), HOSTILE)
    return Page(HOSTILE, [Section(HOSTILE, [*parts, plot])], lead=HOSTILE, facts=[("digest", HOSTILE)], verdict="failed")


class Tags(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def test_the_same_page_has_the_same_bytes():
    assert render(page()) == render(page())


def test_words_stay_words_and_nothing_is_fetched():
    found = Tags(render(page()).decode()).found
    assert not [tag for tag, _ in found if tag in ("script", "link", "iframe", "img")]
    referred = [value for _, given in found for name, value in given.items() if name in ("src", "href", "xlink:href")]
    assert all(value.startswith(("#", "data:")) for value in referred)


def test_a_verdict_is_seen_and_a_missing_value_is_a_dash():
    text = render(page()).decode()
    assert '<span class="verdict failed">failed</span>' in text
    assert '<td class="number">–</td>' in text


@pytest.mark.parametrize(
    ("value", "told"),
    [
        pytest.param(0.123456, "0.1235", id="four digits"),
        pytest.param(1234567, "1,234,567", id="thousands"),
        pytest.param("a|b", "a|b", id="a word as it is"),
        pytest.param(None, "–", id="nothing"),
        pytest.param(float("inf"), "inf", id="infinite"),
    ],
)
def test_cells(value, told):
    assert cell(value) == told


@pytest.mark.parametrize("draw", PLOTS)
def test_a_plot_is_the_same_twice_takes_the_page_s_colour_and_tells_no_date(draw):
    svg = draw()
    assert svg == draw()
    assert svg.startswith("<svg") and svg.endswith("</svg>")
    assert "currentColor" in svg or "<image" in svg
    assert "<script" not in svg and not re.search(r"\b20\d\d-\d\d", svg)


@pytest.mark.parametrize(
    "draw",
    [
        pytest.param(lambda: plots.bars({}, "x"), id="no bars"),
        pytest.param(lambda: plots.lines([], {}, ("x", "y")), id="no lines"),
        pytest.param(lambda: plots.scatter({}, ("x", "y")), id="no points"),
        pytest.param(lambda: plots.histogram({"a": np.empty(0)}, "x"), id="no values"),
        pytest.param(lambda: plots.maps([]), id="no pictures"),
    ],
)
def test_nothing_to_draw_is_an_empty_plot(draw):
    assert draw().startswith("<svg")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        pytest.param("a | b", "a \\| b", id="a cell's end"),
        pytest.param("x\n# y\r\n\n- z", "x \\# y - z", id="lines"),
        pytest.param("<script>1</script>", "\\<script\\>1\\</script\\>", id="HTML"),
        pytest.param("&lt;b&gt;", "\\&lt;b\\&gt;", id="an entity"),
        pytest.param("[here](http://x)", "\\[here\\](http://x)", id="a link"),
        pytest.param("s_1 _s_ a*b `c`", "s_1 \\_s\\_ a\\*b \\`c\\`", id="emphasis and code"),
        pytest.param("- one", "\\- one", id="a list"),
        pytest.param("-1.5", "-1.5", id="a number"),
        pytest.param("1. one", "1\\. one", id="a numbered list"),
    ],
)
def test_words_are_no_markdown(words: str, told: str) -> None:
    assert plain(words) == told
