"""The protocol's classification of an output: of each row the best classes as `VALUE:INDEX:LABEL`. Pure."""

from __future__ import annotations

import numpy as np

from edge_agent.serving.refusals import Refused
from fleet_contract.outputs import Classification, OutputSpec


def best_classes(name: str, array: np.ndarray, output: OutputSpec, count: int) -> np.ndarray:
    """An object array (rows, at most `count`) of bytes. Raises Refused (bad-tensor)."""
    if array.ndim != 2 or array.dtype.kind not in "fiu":
        raise Refused(f"output {name!r} holds no figures by class", code="bad-tensor")
    labels = output.classes if isinstance(output, Classification) and output.tensor == name else None
    order = np.argsort(-array.astype(np.float64), axis=1, kind="stable")[:, :count]
    told = np.empty(order.shape, object)
    for row, best in enumerate(order):
        told[row] = [_told(array[row, at], at, labels) for at in best]
    return told


def _told(value: float, at: int, labels: list[str] | None) -> bytes:
    named = "" if labels is None else f":{labels[at]}"
    return f"{value:f}:{at}{named}".encode()
