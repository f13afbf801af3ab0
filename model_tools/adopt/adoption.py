"""From a description to the bundle."""

import hashlib

import numpy as np

from fleet_contract import limits
from fleet_contract.manifest import Lineage
from fleet_contract.outputs import Detection
from fleet_contract.signature import inputs_of
from model_tools.adopt.description import Described, VariantFile
from model_tools.adopt.isolation import Bounds, Isolated, isolated
from model_tools.adopt.samples import read_samples
from model_tools.build import never_retrained
from model_tools.errors import BadInput
from model_tools.pack.archive import Contents, Evidence, Model, make_bundle

_PRIOR_VALUES = 4


def adopt(described: Described, version: str, bounds: Bounds = Bounds()) -> bytes:
    """The bundle's bytes, with known answers by the models' own runtimes, run under `bounds` in a child process; all samples are its evidence.
    It is never retrained by itself: that takes a task. Raises BadInput (a file, the samples, a model that does not run), GateFailed (samples
    whose answers hardly differ), and what pack.archive.make_bundle raises."""
    said = described.said
    data = described.read(said.samples.file, "samples.file", limits.MAX_BUNDLE_BYTES)
    samples = read_samples(data, said.input)
    with isolated(bounds) as models:
        contents = Contents(
            task=said.model.name,
            version=version,
            description=said.model.description,
            input=said.input,
            output=said.output,
            models=[_model(described, variant, models) for variant in said.variants],
            profiles=said.model.profiles,
            limits=said.limits,
            policy=never_retrained(said.policy),
            lineage=_lineage(described, data),
            states=said.states,
            constants=said.constants,
            priors=_priors(described),
        )
        return make_bundle(contents, Evidence(samples, samples), run=models.run)


def _model(described: Described, variant: VariantFile, models: Isolated) -> Model:
    data = described.read(variant.file, "variants.file", limits.MAX_BUNDLE_BYTES)
    name = variant.name or variant.precision
    rows = variant.batch_rows
    if rows is None:
        tensor = inputs_of(described.said.input)[0].name
        rows = models.fixed_rows(name, variant.engine, data, variant.tensors.get(tensor, tensor))
    return Model(
        precision=variant.precision,
        data=data,
        name=name,
        runtime=variant.engine,
        batch_rows=rows,
        tensors=variant.tensors,
        backends=variant.backends,
        tolerance=variant.tolerance,
    )


def _priors(described: Described) -> np.ndarray | None:
    """A .npy of float32 (n, 4)."""
    output = described.said.output
    if not isinstance(output, Detection) or output.priors is None:
        return None
    path = described.folder / output.priors
    try:
        priors = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise BadInput(f"output.priors: {path} is no .npy: {error}", field="output.priors") from error
    if not isinstance(priors, np.ndarray) or priors.ndim != 2 or priors.shape[1] != _PRIOR_VALUES or not np.isfinite(priors).all():
        raise BadInput(f"output.priors: {path} must hold finite (n, 4) boxes", field="output.priors", limit=_PRIOR_VALUES)
    return priors.astype(np.float32)


def _lineage(described: Described, samples: bytes) -> Lineage:
    head = described.said.model
    return Lineage(
        task_sha256=described.sha256, data_sha256=hashlib.sha256(samples).hexdigest(), seed=0, code=head.source, metrics=head.metrics
    )
