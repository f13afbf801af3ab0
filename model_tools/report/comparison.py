"""A comparison of two models, or one model's evaluation, as a page."""

import math
from collections.abc import Sequence

import numpy as np

from fleet_contract.job import Gate
from model_tools.compare.comparing import Compared, PartChange, surely_worse
from model_tools.compare.measuring import Measured
from model_tools.compare.statistics import Interval
from model_tools.report import plots
from model_tools.report.page import Note, Page, Part, Plot, Section, Table, Text, Verdict

_SHOWN = 30
_CLASSES = 40
"""Of more the confusion is no picture any more."""


def comparison_page(found: Compared, gates: Sequence[Gate] = ()) -> Page:
    """The same figures, the same page."""
    failed = [gate for gate in gates if not gate.passed]
    verdict: Verdict | None = None if not gates else "failed" if failed else "warned" if found.warnings else "passed"
    sections = [
        Section("Verdict", _verdict(found, gates)),
        Section("Quality", _quality(found)),
        *([Section("Classes", _classes(found))] if found.one.confusion is not None else []),
        *([Section("Slices", _slices(found))] if any(p.by != "class" for p in found.parts) else []),
        *([Section("Calibration", _calibration([found.one, found.other]))] if found.one.reliability else []),
        *([Section("Layers", _layers(found))] if found.layers else []),
        Section("Cost", _costs(found)),
    ]
    facts = [("A", found.one.name), ("B", found.other.name), ("test rows", f"{found.rows:,}"), ("data", found.data_sha256)]
    return Page(f"{found.task}: B against A", sections, lead=headline(found), facts=facts, verdict=verdict)


def evaluation_page(task: str, data_sha256: str, measured: Sequence[Measured], gates: Sequence[Gate] = ()) -> Page:
    """Of models each on its own."""
    names = [one.name for one in measured]
    rows = [(key, *(one.evaluation.metrics.get(key) for one in measured)) for key in measured[0].evaluation.metrics]
    parts: list[Part] = [Table(("metric", *names), [*rows, *_intervals(measured)])]
    sections = [Section("Quality", [*_gate_notes(gates), *parts])]
    if measured[0].confusion is not None:
        sections.append(Section("Classes", [_per_class(measured), *_confusions(measured)]))
    if measured[0].reliability:
        sections.append(Section("Calibration", _calibration(measured)))
    verdict: Verdict | None = None if not gates else "passed" if all(gate.passed for gate in gates) else "failed"
    facts = [("test rows", f"{measured[0].evaluation.rows:,}"), ("data", data_sha256)]
    return Page(f"{task}: evaluation", sections, facts=facts, verdict=verdict)


def headline(found: Compared) -> str:
    """One sentence: is B better, worse, or is it too early to say."""
    measure, change = found.one.evaluation.measure, found.change
    sure = not math.isnan(change.low) and (change.low > 0 or change.high < 0)
    way = ("better" if change.value > 0 else "worse") if sure else "neither surely better nor surely worse"
    span = "" if math.isnan(change.low) else f", between {change.low:+.4f} and {change.high:+.4f}"
    return f"B is {way} than A: {measure} changes by {change.value:+.4f}{span} (95 %, {change.way})."


def _verdict(found: Compared, gates: Sequence[Gate]) -> list[Part]:
    parts = [*_gate_notes(gates), *(Note("warned", words) for words in found.warnings)]
    for part in surely_worse(found.parts)[:_SHOWN]:
        parts.append(Note("warned", f"{part.by} {part.part}: B loses {-part.change:.4f} on {part.rows} rows, which is not chance"))
    return parts or [Text("No gate was set, and nothing stands out.")]


def _gate_notes(gates: Sequence[Gate]) -> list[Part]:
    return [Note("passed" if gate.passed else "failed", gate.rule) for gate in gates]


def _quality(found: Compared) -> list[Part]:
    a, b = found.one, found.other
    rows: list[tuple] = [(key, value, b.evaluation.metrics.get(key)) for key, value in a.evaluation.metrics.items()]
    rows += _intervals([a, b])
    shared = [
        ("agreement of answers", found.between.agreement),
        ("signal to noise of outputs, dB", found.between.sqnr_db),
        ("chance that equally good models differ so", found.chance),
    ]
    units = f"{found.units:,} independent units in {found.rows:,} rows; {found.test}."
    return [
        Table(("metric", "A", "B"), rows),
        Table(("B against A", "value"), [*shared, ("change of quality", _spoken(found.change))]),
        Text(units),
    ]


def _intervals(measured: Sequence[Measured]) -> list[tuple]:
    return [(f"{measured[0].evaluation.measure}, 95 %", *(_spoken(one.quality) for one in measured))]


def _spoken(value: Interval) -> str:
    if math.isnan(value.low):
        return f"{value.value:.4f} ({value.way})"
    return f"{value.value:.4f} ({value.low:.4f} to {value.high:.4f}, {value.way})"


def _classes(found: Compared) -> list[Part]:
    parts = [part for part in found.parts if part.by == "class"]
    return [_changes(parts, "class"), *_confusions([found.one, found.other])]


def _per_class(measured: Sequence[Measured]) -> Table:
    names = list(measured[0].evaluation.per_class)
    rows = [(name, *(one.evaluation.per_class.get(name) for one in measured)) for name in names]
    return Table(("class", *(one.name for one in measured)), rows, caption="Shares of rows answered rightly.")


def _confusions(measured: Sequence[Measured]) -> list[Part]:
    told: list[Part] = []
    for one in measured:
        if one.confusion is None or len(one.confusion) > _CLASSES:
            continue
        names = list(one.classes)
        told.append(Plot(plots.matrix(one.confusion, names, names, ("answer", "label")), f"Rows of {one.name}, by label and answer."))
    return told


def _slices(found: Compared) -> list[Part]:
    looked = [p for p in found.parts if p.by != "class"]
    changed = sorted((p for p in looked if p.change), key=lambda p: (p.change, p.by, p.part))[:_SHOWN]
    if not changed:
        return [Text(f"Of {len(looked)} slices none gains or loses.")]
    told = "The slices that lose most; means of answers given rightly (of estimates: minus the error), chances corrected for all slices."
    drawn = {f"{p.by}: {p.part}": p.change for p in changed}
    return [Text(told), _changes(changed, "slice"), Plot(plots.bars(drawn, "B less A"), "What B gains or loses in each slice.")]


def _changes(parts: Sequence[PartChange], what: str) -> Table:
    rows = [(p.part if what == "class" else f"{p.by}: {p.part}", p.rows, p.one, p.other, p.change, p.chance) for p in parts]
    return Table((what, "rows", "A", "B", "change", "chance"), rows)


def _calibration(measured: Sequence[Measured]) -> list[Part]:
    known = [(f"{letter}: {one.name}", one.reliability) for letter, one in zip("AB", measured, strict=False) if one.reliability is not None]
    rows = [(name, told.ece, told.nll, told.brier) for name, told in known]
    drawn = {name: (np.array(told.confidence), np.array(told.accuracy)) for name, told in known}
    return [
        Table(("model", "ECE", "NLL", "Brier"), rows),
        Plot(
            plots.scatter(drawn, ("confidence told", "share answered rightly"), diagonal=True),
            "Reliability: below the line a model is surer than right.",
        ),
    ]


def _layers(found: Compared) -> list[Part]:
    least = sorted(found.layers, key=lambda layer: layer.snr_db)[:_SHOWN]
    finite = {layer.name: layer.snr_db for layer in found.layers if math.isfinite(layer.snr_db)}
    rows = [(layer.name, layer.kind, layer.snr_db, layer.values) for layer in least]
    drawn = [Plot(plots.bars(finite, "dB"), "Signal to noise along the graph.")] if finite else []
    return [Text("The noisiest first; infinite means equal to the last bit."), Table(("layer", "kind", "dB", "values"), rows), *drawn]


def _costs(found: Compared) -> list[Part]:
    a, b = found.one, found.other
    rows: list[tuple] = [("bytes", a.evaluation.model_bytes, b.evaluation.model_bytes)]
    if found.timings:
        one, other = found.timings["A"], found.timings["B"]
        for name in ("p50_ms", "p99_ms", "load_ms", "memory_mb"):
            rows.append((name, getattr(one, name), getattr(other, name)))
    said = "One row, one thread, on the machine that compared; taken in turns, so that the ratio holds where the times do not."
    return [Table(("cost", "A", "B"), rows), *([Text(said)] if found.timings else [])]
