"""A checked bundle as the supervisor uses it: tables are parsed here, models only walked; nothing is run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np

from edge_agent.errors import Reject, Retry
from fleet_contract import answers, features, graph
from fleet_contract.bundle import Bundle, KnownAnswers
from fleet_contract.errors import BadModel, ContractError
from fleet_contract.manifest import Manifest, Variant
from fleet_contract.messages import SketchWindow, encode_record
from fleet_contract.outputs import Detection
from fleet_contract.sketch import Reference, Sketcher, decode_reference


@dataclass(frozen=True)
class Opened:
    """Model files stay in the archive until a worker wants one, and nobody but the worker keeps it."""

    bundle: Bundle
    reference: Reference
    known: KnownAnswers
    priors: np.ndarray | None = None

    @property
    def sha256(self) -> str:
        return self.bundle.sha256

    @property
    def manifest(self) -> Manifest:
        return self.bundle.manifest


def open_bundle(bundle: Bundle) -> Opened:
    """Raises Reject: `bad-model` for a model file that no worker shall see, `bundle` for anything else; or Retry (disk)."""
    with _translated():
        reference = decode_reference(bundle.read(bundle.manifest.reference))
        known = bundle.known_answers()
        priors = answers.priors_of(bundle)
        _check_grid(bundle, reference)
        _check_boxes(bundle.manifest, known, priors)
    opened = Opened(bundle, reference, known, priors)
    for variant in bundle.manifest.variants:
        read_model(bundle, variant)
    return opened


def read_model(bundle: Bundle, variant: Variant) -> bytes:
    """The very bytes whose digest and structure were checked. Raises Reject or Retry as `open_bundle` does."""
    with _translated():
        data = bundle.read(variant.entry)
        if variant.runtime == "onnxruntime":
            graph.check(data)
    return data


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except BadModel as error:
        raise Reject(str(error), code=error.code) from error
    except ContractError as error:
        raise Reject(f"the bundle cannot be opened: {error}", code="bundle") from error
    except OSError as error:
        raise Retry(f"the bundle cannot be read: {error}", code="disk") from error


def _check_boxes(manifest: Manifest, known: KnownAnswers, priors: np.ndarray | None) -> None:
    """The host holds every answer to the shapes of the known ones, so what fits here fits always. Raises Reject."""
    output = manifest.output
    if not isinstance(output, Detection):
        return
    for variant, outputs in known.outputs.items():
        counts = {tensor.shape[1] for name, tensor in outputs.items() if name in (output.boxes, output.scores) and len(tensor.shape) > 1}
        if len(counts | (set() if priors is None else {len(priors)})) > 1:
            raise Reject(f"variant {variant!r}: {counts} boxes and scores do not fit each other, or the priors", code="bundle")


def _check_grid(bundle: Bundle, reference: Reference) -> None:
    """What the agent could not sketch, or not send, is found before the bundle serves. Raises Reject, or TooLarge for a window that fits no record."""
    named = {("input", name) for name in features.input_names(bundle.manifest.input)}
    named |= {("output", name) for name in features.output_names(bundle.manifest.output)}
    unknown = [feature.name for feature in reference.grid.features if (feature.role, feature.name) not in named]
    if unknown:
        raise Reject(f"the reference follows features that this agent does not make: {', '.join(unknown)}", code="bundle")
    epoch = datetime.fromtimestamp(0, UTC)
    empty = Sketcher(reference.grid).sketch()
    encode_record(SketchWindow(start=epoch, end=epoch, bundle=bundle.sha256, first_input=2**53, inputs=2**32, sketch=empty))
