"""What a model's outputs mean: the post-processing that its manifest names, the same where a model is evaluated and where it runs."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from fleet_contract.answers.boxes import detect
from fleet_contract.answers.classes import classify, decide
from fleet_contract.answers.figures import scale, score, tell
from fleet_contract.answers.rows import Answers
from fleet_contract.bundle import Bundle
from fleet_contract.errors import BadBundle
from fleet_contract.manifest import Manifest
from fleet_contract.outputs import Anomaly, Classification, Detection, Raw, Regression, Threshold

__all__ = ["Answers", "answer", "priors_of"]

_PRIOR_VALUES = 4


def answer(
    manifest: Manifest, inputs: Mapping[str, np.ndarray], outputs: Mapping[str, np.ndarray], priors: np.ndarray | None = None
) -> Answers:
    """Of tensors as the manifest's signature says them, finite, rows first. `priors` is what `priors_of` gave for the bundle.
    Raises BadBundle where the outputs' shapes disagree with one another, which the bundle's known answers show."""
    match manifest.output:
        case Classification() as output:
            return classify(output, outputs[output.tensor])
        case Threshold() as output:
            return decide(output, outputs[output.tensor])
        case Regression() as output:
            return scale(output, outputs[output.tensor])
        case Anomaly() as output:
            return score(output, manifest.input, inputs, outputs[output.tensor])
        case Detection() as output:
            return detect(output, outputs[output.boxes], outputs[output.scores], priors)
        case Raw() as output:
            return tell(output, outputs)


def priors_of(bundle: Bundle) -> np.ndarray | None:
    """float32 (n, 4) prior boxes, where the manifest names some: little-endian, without a header. Raises BadBundle, or OSError."""
    output = bundle.manifest.output
    if not isinstance(output, Detection) or output.priors is None:
        return None
    data = bundle.read(output.priors)
    priors = np.frombuffer(data, "<f4", len(data) // 4)
    if 4 * priors.size != len(data) or not priors.size or priors.size % _PRIOR_VALUES or not np.isfinite(priors).all():
        raise BadBundle(f"{len(data)} bytes of priors are no finite float32 (n, 4)", field="priors")
    return priors.reshape(-1, _PRIOR_VALUES).astype(np.float32, copy=False)
