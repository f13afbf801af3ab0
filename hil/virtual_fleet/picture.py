"""A page that shows a run over time: how many devices were online, what was produced and acknowledged a second, what waited. Needs no network."""

from collections.abc import Sequence
from html import escape

from hil.virtual_fleet.comparison import Comparison
from hil.virtual_fleet.report import duration
from hil.virtual_fleet.running import Outcome
from hil.virtual_fleet.script import Phase
from hil.virtual_fleet.tally import Second

_WIDTH, _HEIGHT, _LEFT, _TOP = 900, 160, 70, 24
_COLOURS = ("#2563eb", "#d97706", "#059669")
_STYLE = (
    "body{font:14px system-ui,sans-serif;margin:2em auto;max-width:1000px;color:#1f2937}td,th{padding:.2em .8em;text-align:right}"
    "td:first-child,th:first-child{text-align:left}table{border-collapse:collapse}tr{border-bottom:1px solid #e5e7eb}"
)
Line = tuple[str, Sequence[float]]


def page(outcome: Outcome, comparison: Comparison | None) -> str:
    """One HTML document."""
    seconds = outcome.seconds
    rates: list[Line] = [
        ("produced a second", _differences(seconds, "produced")),
        ("acknowledged a second", _differences(seconds, "acknowledged")),
    ]
    charts = [
        _chart("Records", seconds, rates, outcome),
        _chart("Records that wait on devices", seconds, [("queued", [float(second.queued) for second in seconds])], outcome),
        _chart("Devices online", seconds, [("online", [float(second.online) for second in seconds])], outcome),
    ]
    title = f"Virtual fleet: {escape(outcome.scenario.name)}, {len(outcome.devices):,} devices"
    body = "".join((f"<h1>{title}</h1>", _verdict(comparison), *charts, _table(outcome)))
    return f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title><style>{_STYLE}</style><body>{body}</body></html>\n'


def _verdict(comparison: Comparison | None) -> str:
    if comparison is None:
        return ""
    word = "balances" if comparison.balances else f"does not balance in {len(comparison.mismatches)} lanes"
    return (
        f"<p>The ledger {word}: {comparison.produced:,} produced, {comparison.stored:,} stored, {comparison.dropped:,} dropped, "
        f"{comparison.unsettled:,} still queued.</p>"
    )


def _differences(seconds: Sequence[Second], name: str) -> list[float]:
    values = [0, *(getattr(second, name) for second in seconds)]
    times = [0, *(second.at_s for second in seconds)]
    return [(values[at + 1] - values[at]) / max(1, times[at + 1] - times[at]) for at in range(len(seconds))]


def _chart(title: str, seconds: Sequence[Second], lines: Sequence[Line], outcome: Outcome) -> str:
    if not seconds:
        return ""
    end_s = max(seconds[-1].at_s, 1)
    highest = max((max(values) for _, values in lines), default=0) or 1
    bands = "".join(_band(phase, end_s) for phase, _ in outcome.phases)
    drawn = "".join(_line(seconds, values, colour, end_s, highest) for (_, values), colour in zip(lines, _COLOURS, strict=False))
    legend = "".join(
        f'<text x="{_LEFT + 200 * number}" y="14" fill="{colour}">{escape(name)}</text>'
        for number, ((name, _), colour) in enumerate(zip(lines, _COLOURS, strict=False))
    )
    axes = (
        f'<text x="{_LEFT - 6}" y="{_TOP + 10}" text-anchor="end">{highest:,.0f}</text>'
        f'<text x="{_LEFT - 6}" y="{_TOP + _HEIGHT}" text-anchor="end">0</text>'
        f'<text x="{_LEFT + _WIDTH}" y="{_TOP + _HEIGHT + 16}" text-anchor="end">{end_s} s</text>'
        f'<rect x="{_LEFT}" y="{_TOP}" width="{_WIDTH}" height="{_HEIGHT}" fill="none" stroke="#9ca3af"/>'
    )
    size = f'width="100%" viewBox="0 0 {_LEFT + _WIDTH + 10} {_TOP + _HEIGHT + 24}" font-size="12"'
    return f"<h2>{escape(title)}</h2><svg {size}>{bands}{axes}{legend}{drawn}</svg>"


def _line(seconds: Sequence[Second], values: Sequence[float], colour: str, end_s: int, highest: float) -> str:
    points = " ".join(
        f"{_LEFT + _WIDTH * second.at_s / end_s:.1f},{_TOP + _HEIGHT * (1 - value / highest):.1f}"
        for second, value in zip(seconds, values, strict=True)
    )
    return f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.5"/>'


def _band(phase: Phase, end_s: int) -> str:
    """What was wrong when, behind the lines."""
    if phase.name == "steady" or phase.begin_s >= end_s:
        return ""
    left = _LEFT + _WIDTH * phase.begin_s / end_s
    width = _WIDTH * (min(phase.end_s, end_s) - phase.begin_s) / end_s
    fill = "#e5e7eb" if phase.name == "settling" else "#fee2e2"
    label = f'<text x="{left + 4:.1f}" y="{_TOP + 14}" fill="#6b7280">{escape(phase.name)}</text>'
    return f'<rect x="{left:.1f}" y="{_TOP}" width="{width:.1f}" height="{_HEIGHT}" fill="{fill}"/>{label}'


def _table(outcome: Outcome) -> str:
    head = "".join(f"<th>{name}</th>" for name in ("phase", "messages", "sent again", "acknowledged", "ack p50", "ack p99"))
    rows = "".join(
        "<tr>"
        + "".join(
            f"<td>{escape(cell)}</td>"
            for cell in (
                phase.name,
                f"{tally.messages:,}",
                f"{tally.again:,}",
                f"{tally.acknowledged:,}",
                duration(tally.latency.quantile(0.5)),
                duration(tally.latency.quantile(0.99)),
            )
        )
        + "</tr>"
        for phase, tally in outcome.phases
    )
    return f"<h2>By phase</h2><table><tr>{head}</tr>{rows}</table>"
