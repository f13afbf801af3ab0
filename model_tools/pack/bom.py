"""The bill of materials of a bundle: CycloneDX 1.6 (ECMA-424) with one machine-learning model, its files, its data, and what made and proved it.

Written by hand and not through cyclonedx-python-lib, which has no model cards; its validator holds what is written to the schema.
"""

import hashlib
import uuid
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed_version

import msgspec

from fleet_contract.inputs import TensorsInput
from fleet_contract.manifest import Lineage, Manifest
from fleet_contract.outputs import Anomaly, Classification, Detection, OutputSpec, Raw, Regression, Threshold

ENTRY = "bom.cdx.json"
_SPEC = "1.6"
_ENGINES = {"onnxruntime": "onnxruntime", "litert": "ai-edge-litert"}
_ALWAYS = ("edgefleet", "numpy")
_MODEL, _DATA, _TASK = "model", "data", "task"
Json = dict[str, object]


def versions(manifest: Manifest, made_with: Sequence[str]) -> dict[str, str]:
    """Of the distributions that made the models and gave the known answers, as they are installed here."""
    engines = {_ENGINES[variant.runtime] for variant in manifest.variants}
    found = {}
    for name in sorted({*_ALWAYS, *made_with, *engines}):
        try:
            found[name] = installed_version(name)
        except PackageNotFoundError:
            continue
    return found


def ml_bom(manifest: Manifest, files: Mapping[str, bytes], description: str, libraries: Mapping[str, str]) -> bytes:
    """The BOM as JSON: same arguments, same bytes. It holds no time, and its serial number comes from its content. `files` are the bundle's other
    entries; `libraries` distributions and versions."""
    body: Json = {
        "bomFormat": "CycloneDX",
        "specVersion": _SPEC,
        "version": 1,
        "metadata": {"tools": {"components": _tools(libraries)}, "component": _model(manifest, files, description)},
        "components": [*_files(files), *_origins(manifest.lineage)],
        "dependencies": [{"ref": _MODEL, "dependsOn": [_DATA, _TASK, *_parents(manifest.lineage)]}],
    }
    serial = uuid.uuid5(uuid.NAMESPACE_OID, hashlib.sha256(msgspec.json.encode(body)).hexdigest())
    return msgspec.json.format(msgspec.json.encode({"serialNumber": f"urn:uuid:{serial}", **body}), indent=1)


def problem_of(data: bytes) -> str | None:
    """Why this is no valid CycloneDX 1.6 document. Raises ImportError where the validator is not installed."""
    from cyclonedx.exception import MissingOptionalDependencyException
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    try:
        found = JsonStrictValidator(SchemaVersion.V1_6).validate_str(data.decode())
    except MissingOptionalDependencyException as error:
        raise ImportError(str(error)) from error
    except (ValueError, RecursionError) as error:
        return str(error)
    return None if found is None else str(found)


def _model(manifest: Manifest, files: Mapping[str, bytes], description: str) -> Json:
    return {
        "type": "machine-learning-model",
        "bom-ref": _MODEL,
        "name": manifest.task,
        "version": manifest.version,
        **({"description": description} if description else {}),
        "modelCard": _card(manifest),
        "properties": [
            *_properties("variant", {v.name: f"{v.entry} ({v.precision}, {v.runtime})" for v in manifest.variants}),
            *_properties("limit", {"memory_mb": str(manifest.limits.memory_mb), "latency_ms": f"{manifest.limits.latency_ms:g}"}),
            *_properties("lineage", _lineage(manifest.lineage)),
        ],
        "components": [_variant(v.name, v.entry, files[v.entry]) for v in manifest.variants],
    }


def _variant(name: str, entry: str, data: bytes) -> Json:
    return {
        "type": "machine-learning-model",
        "bom-ref": f"variant:{name}",
        "name": entry,
        "hashes": _hashes(hashlib.sha256(data).hexdigest()),
        "properties": _properties("file", {"bytes": str(len(data))}),
    }


def _card(manifest: Manifest) -> Json:
    metrics = sorted(manifest.lineage.metrics.items())
    profiles = ", ".join(manifest.profiles)
    return {
        "modelParameters": {
            "approach": {"type": "unsupervised" if isinstance(manifest.output, Anomaly) else "supervised"},
            "task": _task_of(manifest.output),
            "datasets": [{"ref": _DATA}],
            "inputs": [{"format": _taken(manifest)}],
            "outputs": [{"format": _given(manifest.output)}],
        },
        **(
            {"quantitativeAnalysis": {"performanceMetrics": [{"type": name, "value": f"{value:.6g}"} for name, value in metrics]}}
            if metrics
            else {}
        ),
        "considerations": {
            "useCases": [f"Hardware profiles: {profiles}"],
            "technicalLimitations": [
                f"Needs up to {manifest.limits.memory_mb} MB of memory and {manifest.limits.latency_ms:g} ms an input."
            ],
        },
    }


def _task_of(output: OutputSpec) -> str:
    match output:
        case Classification() | Threshold():
            return "classification"
        case Regression():
            return "regression"
        case Anomaly():
            return "anomaly-detection"
        case Detection():
            return "object-detection"
        case Raw():
            return "feature-extraction"


def _taken(manifest: Manifest) -> str:
    spec = manifest.input
    return "tensors" if isinstance(spec, TensorsInput) else type(spec).__struct_config__.tag


def _given(output: OutputSpec) -> str:
    return type(output).__struct_config__.tag


def _tools(libraries: Mapping[str, str]) -> list[Json]:
    return [
        {
            "type": "application" if name == "edgefleet" else "library",
            "bom-ref": f"pkg:pypi/{name}@{version}",
            "name": name,
            "version": version,
            "purl": f"pkg:pypi/{name}@{version}",
        }
        for name, version in sorted(libraries.items())
    ]


def _files(files: Mapping[str, bytes]) -> list[Json]:
    return [
        {"type": "file", "bom-ref": f"file:{name}", "name": name, "hashes": _hashes(hashlib.sha256(data).hexdigest())}
        for name, data in sorted(files.items())
    ]


def _origins(line: Lineage) -> list[Json]:
    """What the model was made from; each by its digest alone."""
    data = {"type": "data", "bom-ref": _DATA, "name": "training and test data", "data": [{"type": "dataset"}]}
    task = {"type": "data", "bom-ref": _TASK, "name": "task file", "data": [{"type": "configuration"}]}
    found: list[Json] = [{**data, "hashes": _hashes(line.data_sha256)}, {**task, "hashes": _hashes(line.task_sha256)}]
    if line.parent is not None:
        parent = {"type": "machine-learning-model", "bom-ref": "parent", "name": "parent bundle", "hashes": _hashes(line.parent)}
        found.append(parent)
    return found


def _parents(line: Lineage) -> list[str]:
    return [] if line.parent is None else ["parent"]


def _lineage(line: Lineage) -> dict[str, str]:
    told = {"seed": str(line.seed), "code": line.code, "job": line.job, "run": line.run, "source": line.source}
    return {name: value for name, value in told.items() if isinstance(value, str)}


def _hashes(sha256: str) -> list[Json]:
    return [{"alg": "SHA-256", "content": sha256}]


def _properties(group: str, values: Mapping[str, str]) -> list[Json]:
    return [{"name": f"edgefleet:{group}:{name}", "value": value} for name, value in values.items()]
