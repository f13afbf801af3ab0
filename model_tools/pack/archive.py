"""Puts one bundle together: the same contents give the same bytes, on the same machine and versions."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec
import numpy as np

from fleet_contract import features, graph
from fleet_contract.answers import answer
from fleet_contract.bundle import Bundle, pack
from fleet_contract.inputs import InputSpec, TensorsInput
from fleet_contract.manifest import Constant, Limits, Lineage, Manifest, Policy, State, Variant
from fleet_contract.outputs import Detection, OutputSpec
from fleet_contract.sketch import Condition, Reference, decode_reference, encode_reference
from model_tools import running
from model_tools.errors import BadInput
from model_tools.pack import answers, bom, reference
from model_tools.report.card import model_card
from model_tools.running import Tensors

_ANSWERS = "known-answers.msgpack"
_REFERENCE = "reference.msgpack"
_CARD = "card.md"
_PRIORS = "priors.f32"
_FEATURE_ROWS = 512
_SUFFIXES = {"onnxruntime": "onnx", "litert": "tflite"}

Run = Callable[..., dict[str, np.ndarray]]
"""As running.run, wherever the model is opened."""


@dataclass(frozen=True)
class Model:
    """One model file, without external data. `name` is the variant's, else the precision is; `tolerance` None: by the rule of answers.tolerance;
    the rest as in fleet_contract.manifest.Variant."""

    precision: str
    data: bytes
    name: str = ""
    runtime: str = "onnxruntime"
    batch_rows: int = 0
    tensors: Mapping[str, str] = field(default_factory=dict)
    backends: Sequence[str] = ()
    tolerance: float | None = None

    @property
    def variant(self) -> Variant:
        """With no tolerance yet."""
        name = self.name or self.precision
        entry = f"{name}.{_SUFFIXES[self.runtime]}"
        return Variant(name, entry, self.runtime, self.precision, 0.0, self.batch_rows, dict(self.tensors), list(self.backends))


@dataclass(frozen=True)
class Evidence:
    """Inputs by the manifest's tensor names, rows first: `known` is everything that the task's data holds, `held_out` what no weight was fitted
    to. Of a model with states the rows of `held_out` are consecutive steps. `healthy` are positions in `held_out` of what a healthy device sees
    (None: all): the reference's outputs come from those, the known answers from any."""

    known: Tensors
    held_out: Tensors
    healthy: np.ndarray | None = None


@dataclass(frozen=True)
class Contents:
    """What a bundle says of itself. `models` begins with the one that devices should prefer; `description` goes into card and bill of materials
    alone. `priors` float32 (n, 4) are a Detection's prior boxes. `made_with` names distributions that made the models; `sections` are further
    ones of the card, Markdown by title."""

    task: str
    version: str
    description: str
    input: InputSpec
    output: OutputSpec
    models: Sequence[Model]
    profiles: Sequence[str]
    limits: Limits
    policy: Policy
    lineage: Lineage
    states: Sequence[State] = ()
    constants: Sequence[Constant] = ()
    priors: np.ndarray | None = None
    made_with: Sequence[str] = ()
    sections: Mapping[str, str] = field(default_factory=dict)


def make_bundle(
    contents: Contents, evidence: Evidence, parent: Bundle | None = None, condition: Condition | None = None, run: Run = running.run
) -> bytes:
    """The archive's bytes. With a `parent`, its grid and its conditions' input features are kept and `condition`, which was seen on that
    grid, is added: devices in the old state of the world and in the new one both fit.

    Raises BadInput (a model that does not run or gives no finite answers, another input than the parent's), BadData (features that cannot
    be followed), GateFailed (known answers that would not tell a wrong model), BadModel (a file that no
    device would open), BadSketch (a condition on another grid) and BadBundle.
    """
    draft = _draft(contents)
    said = [answer(draft, evidence.held_out, _answered(draft, model, evidence.held_out, run), contents.priors) for model in contents.models]
    rows = np.arange(answers.room(evidence.held_out)) if contents.states else answers.choose(evidence.held_out, said)
    kept = {name: values[rows] for name, values in evidence.held_out.items()}
    answered = [_both_ways(draft, model, kept, run) for model in contents.models]
    outputs = said[0].features if evidence.healthy is None else said[0].features[evidence.healthy]
    made = _refer(contents, evidence, outputs, parent, condition)
    manifest = msgspec.structs.replace(draft, variants=_tolerant(contents.models, answered))
    files = {model.variant.entry: model.data for model in contents.models}
    sizes = {model.variant.name: len(model.data) for model in contents.models}
    if contents.priors is not None:
        files[_PRIORS] = contents.priors.astype("<f4").tobytes()
    files[_ANSWERS] = msgspec.msgpack.encode(answers.as_answers(kept, answered))
    files[_REFERENCE] = encode_reference(made)
    files[_CARD] = model_card(manifest, made, sizes, contents.description, contents.sections).encode()
    files[bom.ENTRY] = bom.ml_bom(manifest, files, contents.description, bom.versions(manifest, contents.made_with))
    return pack(manifest, files)


def _draft(contents: Contents) -> Manifest:
    """The manifest, its variants' tolerances still to be found."""
    if not contents.models:
        raise BadInput("a bundle needs at least one model", field="models")
    for model in contents.models:
        if model.runtime == "onnxruntime":
            graph.check(model.data)
    output = contents.output
    if isinstance(output, Detection):
        output = msgspec.structs.replace(output, priors=None if contents.priors is None else _PRIORS)
    return Manifest(
        task=contents.task,
        version=contents.version,
        input=contents.input,
        output=output,
        states=list(contents.states),
        constants=list(contents.constants),
        variants=[model.variant for model in contents.models],
        known_answers=_ANSWERS,
        reference=_REFERENCE,
        card=_CARD,
        profiles=list(contents.profiles),
        limits=contents.limits,
        policy=contents.policy,
        lineage=contents.lineage,
        entries={},
    )


def _refer(contents: Contents, evidence: Evidence, outputs: np.ndarray, parent: Bundle | None, condition: Condition | None) -> Reference:
    inputs = _input_features(evidence.known, contents.input)
    if parent is None:
        grid, known = reference.fit_grid(contents.input, contents.output, inputs, outputs), []
    else:
        old = decode_reference(parent.read(parent.manifest.reference))
        grid, known = old.grid, reference.inherit(old, contents.input, contents.output)
    new = None if condition is None else reference.accept(condition, grid)
    return reference.join(grid, reference.describe(reference.TRAINING, grid, inputs, outputs), known, new)


def _input_features(known: Tensors, spec: InputSpec) -> np.ndarray:
    inputs = known[spec.tensors[0].name if isinstance(spec, TensorsInput) else spec.tensor]
    parts = [features.of_inputs(inputs[at : at + _FEATURE_ROWS], spec) for at in range(0, len(inputs), _FEATURE_ROWS)]
    return np.concatenate(parts) if parts else np.empty((0, len(features.input_names(spec))), np.float32)


def _both_ways(draft: Manifest, model: Model, inputs: Tensors, run: Run) -> answers.Answered:
    fused, plain = (_answered(draft, model, inputs, run, fused=way) for way in (True, False))
    return answers.Answered(model.variant.name, model.precision, fused, plain)


def _answered(draft: Manifest, model: Model, inputs: Tensors, run: Run, *, fused: bool = True) -> dict[str, np.ndarray]:
    answers.room(inputs)
    said = run(draft, model.variant, model.data, inputs, fused=fused)
    if not all(values.dtype.kind != "f" or np.isfinite(values).all() for values in said.values()):
        raise BadInput(f"the {model.variant.name} model answers with NaN or infinity", field=model.variant.name)
    return said


def _tolerant(models: Sequence[Model], answered: Sequence[answers.Answered]) -> list[Variant]:
    exact = next((a.fused for a in answered if a.precision == "fp32"), None)
    found = [answers.tolerance(a, exact) if m.tolerance is None else m.tolerance for m, a in zip(models, answered, strict=True)]
    return [msgspec.structs.replace(model.variant, tolerance=bound) for model, bound in zip(models, found, strict=True)]
