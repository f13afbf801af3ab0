"""The model card (Mitchell et al., 2019) as Markdown, made from what the bundle itself holds."""

from collections.abc import Mapping, Sequence

from fleet_contract.inputs import ImageInput, InputSpec, TensorsInput, VectorInput, WindowInput
from fleet_contract.manifest import Manifest
from fleet_contract.outputs import Anomaly, Classification, Detection, OutputSpec, Raw, Regression, Threshold
from fleet_contract.sketch import Reference
from model_tools.report.markdown import plain, table

_MOST_COLUMNS = 64


def model_card(
    manifest: Manifest, reference: Reference, sizes: Mapping[str, int], description: str = "", sections: Mapping[str, str] = {}
) -> str:
    """`sizes` gives the bytes of each variant; `sections` are further ones, Markdown by title. Holds no time and no path: the same model has the same card."""
    parts = [
        f"# {manifest.task} {manifest.version}",
        *([plain(description)] if description else []),
        _purpose(manifest),
        "## Variants\n\n" + _variants(manifest, sizes),
        "## Measured on held-out data\n\n" + _metrics(manifest),
        *(f"## {title}\n\n{text}" for title, text in sections.items()),
        "## Limits\n\n" + _limits(manifest),
        "## Known conditions\n\n" + _conditions(reference),
        "## What devices watch and send\n\n" + _policy(manifest),
        "## Lineage\n\n" + _lineage(manifest),
    ]
    return "\n\n".join(parts) + "\n"


def _purpose(manifest: Manifest) -> str:
    remembers = " It remembers the inputs before." if manifest.states else ""
    fits = f" Fits the hardware profiles: {', '.join(manifest.profiles)}."
    return f"Takes {_taken(manifest.input)}. {_given(manifest.output)}{remembers}{fits}"


def _taken(spec: InputSpec) -> str:
    match spec:
        case ImageInput():
            return f"images of {spec.width} x {spec.height}, {'grey' if spec.channels == 1 else 'RGB'}"
        case VectorInput():
            return f"vectors of {len(spec.columns)} columns, each refused outside its range"
        case WindowInput():
            return f"windows of {spec.length} samples of {len(spec.columns)} columns, every {spec.stride}; each refused outside its range"
        case TensorsInput():
            return "tensors: " + ", ".join(f"{plain(tensor.name)} ({tensor.dtype} {tensor.shape})" for tensor in spec.tensors)


def _given(output: OutputSpec) -> str:
    match output:
        case Classification():
            return f"Classifies into {len(output.classes)} classes: {_listed(output.classes)}."
        case Threshold():
            return f"Answers {plain(output.labels[1])} from a probability of {output.threshold:g} on, else {plain(output.labels[0])}."
        case Regression():
            return f"Estimates {_listed([f'{target} ({unit})' for target, unit in zip(output.targets, output.units, strict=True)])}."
        case Anomaly():
            return f"Scores anomalies, by {output.score}: from {output.threshold:g} on."
        case Detection():
            return f"Finds boxes of {len(output.classes) - output.background} classes: {_listed(output.classes[output.background :])}."
        case Raw():
            return f"Gives its outputs as they are: {_listed([tensor.name for tensor in output.tensors])}."


def _listed(words: Sequence[str]) -> str:
    return ", ".join(plain(word) for word in words[:20]) + (f" and {len(words) - 20} more" if len(words) > 20 else "")


def _variants(manifest: Manifest, sizes: Mapping[str, int]) -> str:
    rows = [(v.name, v.precision, v.runtime, f"{sizes[v.name]:,}", f"{v.tolerance:g}") for v in manifest.variants]
    return table(("variant", "precision", "runtime", "bytes", "tolerance of known answers"), rows)


def _metrics(manifest: Manifest) -> str:
    metrics = manifest.lineage.metrics
    if not metrics:
        return "Nothing was measured."
    return table(("metric", "value"), [(name, f"{value:.4g}") for name, value in sorted(metrics.items())])


def _limits(manifest: Manifest) -> str:
    bounds = manifest.limits
    lead = f"A device refuses the bundle where it needs more than {bounds.memory_mb:,} MB or {bounds.latency_ms:g} ms an input."
    spec = manifest.input
    if not isinstance(spec, VectorInput | WindowInput):
        return lead
    rows = [(column, f"{low:g}", f"{high:g}") for column, low, high in zip(spec.columns, spec.low, spec.high, strict=True)]
    more = f"\n\nand {len(rows) - _MOST_COLUMNS} more columns." if len(rows) > _MOST_COLUMNS else ""
    return f"{lead} Outside these bounds an input is refused:\n\n" + table(("column", "from", "to"), rows[:_MOST_COLUMNS]) + more


def _conditions(reference: Reference) -> str:
    rows = [(c.name, str(c.sketch.rows), str(len(c.features))) for c in reference.conditions]
    lead = f"A stream is healthy when it fits one of these, on {reference.grid.bins} bins a feature.\n\n"
    return lead + table(("condition", "inputs", "features"), rows)


def _policy(manifest: Manifest) -> str:
    drift, sampling, retrain = manifest.policy.drift, manifest.policy.sampling, manifest.policy.retrain
    approval = "waits for a person" if retrain.approval else "starts by itself"
    return (
        f"Drift: {drift.windows} consecutive windows of {drift.window_inputs} inputs that deviate by at least {drift.min_effect:g} "
        f"(Kolmogorov-Smirnov); a healthy device alarms with a chance of at most {drift.false_alarms:g}.\n"
        f"Then it sends at most {sampling.max_items} inputs and {sampling.max_bytes:,} bytes to be labelled; "
        f"{retrain.min_labels} labels start a retraining, whose rollout {approval}."
    )


def _lineage(manifest: Manifest) -> str:
    line = manifest.lineage
    rows = [
        ("task file", line.task_sha256),
        ("data", line.data_sha256),
        ("seed", str(line.seed)),
        ("code", line.code),
        ("parent bundle", line.parent or "none"),
        ("job", line.job or "none"),
        *([("run", line.run)] if isinstance(line.run, str) else []),
        *([("imported from", line.source)] if isinstance(line.source, str) else []),
    ]
    return table(("what", "which"), rows)
