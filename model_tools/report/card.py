"""The model card (Mitchell et al., 2019) as Markdown, made from what the bundle itself holds."""

from collections.abc import Iterable, Mapping

from fleet_contract.inputs import ImageInput
from fleet_contract.manifest import Manifest
from fleet_contract.sketch import Reference


def model_card(manifest: Manifest, reference: Reference, sizes: Mapping[str, int], description: str = "") -> str:
    """`sizes` gives the bytes of each variant. Holds no time and no path: the same model has the same card."""
    parts = [
        f"# {manifest.task} {manifest.version}",
        *([_cell(description)] if description else []),
        _purpose(manifest),
        "## Variants\n\n" + _variants(manifest, sizes),
        "## Measured on held-out data\n\n" + _metrics(manifest),
        "## Known conditions\n\n" + _conditions(reference),
        "## What devices watch and send\n\n" + _policy(manifest),
        "## Lineage\n\n" + _lineage(manifest),
    ]
    return "\n\n".join(parts) + "\n"


def _purpose(manifest: Manifest) -> str:
    classes = manifest.output.classes
    named = ", ".join(_cell(c) for c in classes[:20]) + (f" and {len(classes) - 20} more" if len(classes) > 20 else "")
    spec = manifest.input
    if isinstance(spec, ImageInput):
        taken = f"images of {spec.width} x {spec.height}, {'grey' if spec.channels == 1 else 'RGB'}"
    else:
        taken = f"vectors of {len(spec.columns)} columns, each refused outside its range"
    return f"Classifies {taken}, into {len(classes)} classes: {named}. Fits the hardware profiles: {', '.join(manifest.profiles)}."


def _variants(manifest: Manifest, sizes: Mapping[str, int]) -> str:
    rows = [(v.name, v.precision, v.runtime, f"{sizes[v.name]:,}", f"{v.tolerance:g}") for v in manifest.variants]
    return _table(("variant", "precision", "runtime", "bytes", "tolerance of known answers"), rows)


def _metrics(manifest: Manifest) -> str:
    metrics = manifest.lineage.metrics
    if not metrics:
        return "Nothing was measured."
    return _table(("metric", "value"), [(name, f"{value:.4g}") for name, value in sorted(metrics.items())])


def _conditions(reference: Reference) -> str:
    rows = [(c.name, str(c.sketch.rows), str(len(c.features))) for c in reference.conditions]
    lead = f"A stream is healthy when it fits one of these, on {reference.grid.bins} bins a feature.\n\n"
    return lead + _table(("condition", "inputs", "features"), rows)


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
    ]
    return _table(("what", "which"), rows)


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join("| " + " | ".join(_cell(cell) for cell in line) + " |" for line in lines)


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())
