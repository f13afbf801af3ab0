"""What a model's outputs mean, for a caller that asks for it."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
import numpy as np

from edge_agent.catalogue import Prediction
from edge_agent.serving.refusals import Refused
from fleet_contract.answers import answer
from fleet_contract.errors import BadBundle


def told(prediction: Prediction, inputs: Mapping[str, np.ndarray]) -> list[dict]:
    """Of each row the label (None: none), the value, whether the model abstained, and the details where there are some.
    Raises Refused (unsupported)."""
    try:
        found = answer(prediction.manifest, inputs, prediction.outputs, prediction.priors)
    except BadBundle as error:
        raise Refused(f"the outputs have no answers: {error}", code="unsupported") from error
    rows = zip(found.labels, found.values, found.abstained, found.details, strict=True)
    return [{"label": label, "value": value, "abstained": abstained, **_detail(detail)} for label, value, abstained, detail in rows]


def _detail(detail) -> dict:
    return {} if detail is None else {"detail": msgspec.to_builtins(detail)}
