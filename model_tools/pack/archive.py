"""Puts one bundle together: the same contents give the same bytes, on the same machine and versions."""

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import numpy as np

from fleet_contract import features, graph
from fleet_contract.bundle import Bundle, pack
from fleet_contract.inputs import ImageInput, VectorInput
from fleet_contract.manifest import Limits, Lineage, Manifest, Policy, Variant
from fleet_contract.outputs import Classification
from fleet_contract.sketch import Condition, Reference, decode_reference, encode_reference
from model_tools.errors import BadInput
from model_tools.pack import answers, reference
from model_tools.report.card import model_card
from model_tools.running import logits

_ANSWERS = "known-answers.msgpack"
_REFERENCE = "reference.msgpack"
_CARD = "card.md"
_FEATURE_ROWS = 512


@dataclass(frozen=True)
class Model:
    """An ONNX model without external data: graph input as the task's, output logits. `precision` is fp32 or int8, and names the variant."""

    precision: str
    onnx: bytes


@dataclass(frozen=True)
class Evidence:
    """Graph inputs, float32 (rows, ...): `known` is everything that the task's data holds, `held_out` what no weight was fitted to."""

    known: np.ndarray
    held_out: np.ndarray


@dataclass(frozen=True)
class Contents:
    """What a bundle says of itself. `models` begins with the one that devices should prefer; `description` goes into the card alone."""

    task: str
    version: str
    description: str
    input: ImageInput | VectorInput
    output: Classification
    models: Sequence[Model]
    profiles: Sequence[str]
    limits: Limits
    policy: Policy
    lineage: Lineage


def make_bundle(contents: Contents, evidence: Evidence, parent: Bundle | None = None, condition: Condition | None = None) -> bytes:
    """The archive's bytes. With a `parent`, its grid and its conditions' input features are kept and `condition`, which was seen on that
    grid, is added: devices in the old state of the world and in the new one both fit.

    Raises BadInput (a model that does not run or gives no finite answers, another input than the parent's), BadData (features that cannot
    be followed), GateFailed (known answers that would not tell a wrong model), BadModel (a file that no
    device would open), BadSketch (a condition on another grid) and BadBundle.
    """
    if not contents.models:
        raise BadInput("a bundle needs at least one model", field="models")
    for model in contents.models:
        graph.check(model.onnx)
    held_out = _answered(contents.models[0], evidence.held_out)
    rows = answers.choose(evidence.held_out, held_out)
    answered = _answer_all(contents.models, evidence.held_out[rows])
    made = _refer(contents.input, evidence, features.softmax(held_out), parent, condition)
    manifest = _manifest(contents, answered)
    files = {_file(m): m.onnx for m in contents.models}
    sizes = {m.precision: len(m.onnx) for m in contents.models}
    files[_ANSWERS] = msgspec.msgpack.encode(
        answers.as_answers(contents.input.tensor, evidence.held_out[rows], contents.output.tensor, answered)
    )
    files[_REFERENCE] = encode_reference(made)
    files[_CARD] = model_card(manifest, made, sizes, contents.description).encode()
    return pack(manifest, files)


def _refer(
    spec: ImageInput | VectorInput, evidence: Evidence, probabilities: np.ndarray, parent: Bundle | None, condition: Condition | None
) -> Reference:
    inputs = _input_features(evidence.known, spec)
    if parent is None:
        grid, known = reference.fit_grid(spec, inputs), []
    else:
        old = decode_reference(parent.read(parent.manifest.reference))
        grid, known = old.grid, reference.inherit(old, spec)
    new = None if condition is None else reference.accept(condition, grid)
    return reference.join(grid, reference.describe(reference.TRAINING, grid, inputs, probabilities), known, new)


def _input_features(inputs: np.ndarray, spec: ImageInput | VectorInput) -> np.ndarray:
    parts = [features.of_inputs(inputs[at : at + _FEATURE_ROWS], spec) for at in range(0, len(inputs), _FEATURE_ROWS)]
    return np.concatenate(parts) if parts else np.empty((0, len(features.input_names(spec))), np.float32)


def _answer_all(models: Sequence[Model], inputs: np.ndarray) -> list[answers.Answered]:
    return [answers.Answered(m.precision, m.precision, _answered(m, inputs), _answered(m, inputs, fused=False)) for m in models]


def _answered(model: Model, inputs: np.ndarray, *, fused: bool = True) -> np.ndarray:
    if not len(inputs):
        raise BadInput("a bundle needs held-out inputs, and there are none", field="held_out")
    said = logits(model.onnx, inputs, fused=fused)
    if not np.isfinite(said).all():
        raise BadInput(f"the {model.precision} model answers with NaN or infinity", field=model.precision)
    return said


def _manifest(contents: Contents, answered: Sequence[answers.Answered]) -> Manifest:
    fp32 = next((a.fused for a in answered if a.precision == "fp32"), None)
    variants = [
        Variant(
            name=a.variant,
            entry=f"{a.variant}.onnx",
            runtime="onnxruntime",
            precision=a.precision,
            tolerance=answers.tolerance(a, fp32),
        )
        for a in answered
    ]
    return Manifest(
        task=contents.task,
        version=contents.version,
        input=contents.input,
        output=contents.output,
        variants=variants,
        known_answers=_ANSWERS,
        reference=_REFERENCE,
        card=_CARD,
        profiles=list(contents.profiles),
        limits=contents.limits,
        policy=contents.policy,
        lineage=contents.lineage,
        entries={},
    )


def _file(model: Model) -> str:
    return f"{model.precision}.onnx"
