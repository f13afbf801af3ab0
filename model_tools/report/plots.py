"""Plots as SVG for report/page.py: the same values give the same bytes, and lines and words take the page's own colour, light or dark."""

import io
import re
import warnings
from collections.abc import Callable, Mapping, Sequence

import numpy as np

_INK = "#010203"
"""Stands for the page's text colour until the file is written: matplotlib knows no currentColor."""
_STYLE = {
    "svg.hashsalt": "edgefleet",
    "svg.fonttype": "none",
    "text.parse_math": False,
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    **dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), _INK),
    "legend.frameon": False,
    "savefig.transparent": True,
}
_COLOURS = ("#3b7dd8", "#e08a2e", "#3aa76d", "#b35bb5", "#c9483f", "#7a8794")
_INCHES = (6.4, 3.2)
_DIGITS_UP_TO = 12
"""Larger matrices carry no numbers."""
_MAX_BARS = 40
_LABEL_CHARS = 36
"""Longer words would take the room of the bars."""
_ID = re.compile(r' id="[A-Za-z]\w*?_\d+"')
"""Of groups, repeated in each plot of a page; those that are referred to end in a hash."""


def bars(values: Mapping[str, float], label: str, *, spread: Mapping[str, float] | None = None, limit: float | None = None) -> str:
    """Horizontal, in the order given; of more than 40 the first. `spread` draws a whisker of that length to both sides, `limit` a line."""
    shown = dict(list(values.items())[:_MAX_BARS])

    def draw(axes) -> None:
        errors = None if spread is None else [spread.get(name, 0.0) for name in shown]
        axes.barh(range(len(shown)), [*shown.values()], xerr=errors, color=_COLOURS[0], ecolor=_INK)
        axes.set_yticks(range(len(shown)), [name if len(name) <= _LABEL_CHARS else f"{name[: _LABEL_CHARS - 1]}…" for name in shown])
        axes.invert_yaxis()
        axes.set_xlabel(label)
        if limit is not None:
            axes.axvline(limit, color=_COLOURS[4], linestyle="--")

    return _draw(draw, (_INCHES[0], 0.8 + 0.24 * max(1, len(shown))))


def lines(x: Sequence[float], series: Mapping[str, Sequence[float]], labels: tuple[str, str]) -> str:
    """`labels` are those of the axes."""

    def draw(axes) -> None:
        for (name, values), colour in zip(series.items(), _cycled(len(series)), strict=True):
            axes.plot(x, values, color=colour, label=name, marker="o" if len(x) <= 20 else None, markersize=3)
        _name_axes(axes, labels, len(series))

    return _draw(draw)


def scatter(
    series: Mapping[str, tuple[np.ndarray, np.ndarray]], labels: tuple[str, str], *, named: Sequence[str] = (), diagonal: bool = False
) -> str:
    """Points (x, y) a series; `named` are words beside the points of the first; `diagonal` draws y = x from 0 to 1."""

    def draw(axes) -> None:
        for (name, (x, y)), colour in zip(series.items(), _cycled(len(series)), strict=True):
            axes.scatter(x, y, s=12, color=colour, label=name)
        first = next(iter(series.values()), ((), ()))
        for word, x, y in zip(named, *first, strict=False):
            axes.annotate(word, (x, y), xytext=(4, 3), textcoords="offset points", fontsize=8)
        if diagonal:
            axes.plot([0, 1], [0, 1], color=_INK, linestyle=":", linewidth=1)
        _name_axes(axes, labels, len(series))

    return _draw(draw)


def histogram(series: Mapping[str, np.ndarray], label: str, bins: int = 30) -> str:
    """Shares of each series on the same edges."""
    values = [np.asarray(part, np.float64) for part in series.values()]
    whole = np.concatenate([part[np.isfinite(part)] for part in values]) if values else np.empty(0)
    edges = np.histogram_bin_edges(whole, bins) if len(whole) else np.linspace(0, 1, bins + 1)

    def draw(axes) -> None:
        for name, part, colour in zip(series, values, _cycled(len(series)), strict=True):
            axes.hist(part, edges, weights=np.full(len(part), 1 / max(1, len(part))), color=colour, alpha=0.55, label=name)
        _name_axes(axes, (label, "share of rows"), len(series))

    return _draw(draw)


def matrix(values: np.ndarray, rows: Sequence[str], columns: Sequence[str], labels: tuple[str, str]) -> str:
    """(rows, columns) as a heat map; `labels` are (columns', rows')."""
    values = np.asarray(values)

    def draw(axes) -> None:
        axes.imshow(values, cmap="Blues", aspect="auto")
        axes.set_xticks(range(len(columns)), columns, rotation=45, ha="right")
        axes.set_yticks(range(len(rows)), rows)
        axes.set_xlabel(labels[0])
        axes.set_ylabel(labels[1])
        if max(values.shape) <= _DIGITS_UP_TO:
            middle = values.max() / 2
            for (row, column), value in np.ndenumerate(values):
                axes.text(column, row, f"{value:g}", ha="center", va="center", color="white" if value > middle else "black", fontsize=8)

    side = min(8.0, 2.2 + 0.4 * max(len(rows), len(columns)))
    return _draw(draw, (side, side * 0.85))


def maps(pictures: Sequence[tuple[str, np.ndarray, np.ndarray]]) -> str:
    """Pictures beside what weighs in them: (words, pixels 0..255 (height, width[, 3]), weights (height, width): red speaks for, blue against)."""
    from matplotlib.figure import Figure

    with _style():
        figure = Figure(figsize=(4.2, 2.1 * max(1, len(pictures))), layout="constrained")
        for axes, (words, pixels, weights) in zip(figure.subplots(max(1, len(pictures)), 2, squeeze=False), pictures, strict=False):
            most = float(np.abs(weights).max()) or 1.0
            axes[0].imshow(np.asarray(pixels, np.uint8), cmap="gray", vmin=0, vmax=255)
            axes[1].imshow(weights, cmap="RdBu_r", vmin=-most, vmax=most)
            axes[0].set_title(words, fontsize=8)
            for one in axes:
                one.set_axis_off()
        return _svg(figure)


def _draw(draw: Callable, inches: tuple[float, float] = _INCHES) -> str:
    from matplotlib.figure import Figure

    with _style():
        figure = Figure(figsize=inches, layout="constrained")
        draw(figure.subplots())
        return _svg(figure)


def _style():
    import matplotlib

    return matplotlib.rc_context(_STYLE)


def _svg(figure) -> str:
    out = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # the reader's fonts draw the words, not matplotlib's
        warnings.filterwarnings("ignore", "constrained_layout not applied")
        figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    text = out.getvalue().decode()
    return _ID.sub("", text[text.index("<svg") :]).replace(_INK, "currentColor").strip()


def _cycled(count: int) -> list[str]:
    return [_COLOURS[at % len(_COLOURS)] for at in range(count)]


def _name_axes(axes, labels: tuple[str, str], series: int) -> None:
    axes.set_xlabel(labels[0])
    axes.set_ylabel(labels[1])
    if series > 1:
        axes.legend()
