"""What local applications may call: the models of this device by name. Implemented in inference/, used by serving/."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from edge_agent.ports import Inference, Tensors
from fleet_contract.inputs import InputSpec
from fleet_contract.manifest import Manifest
from fleet_contract.signature import Signature


@dataclass(frozen=True)
class Prediction:
    """`outputs` of the model's signature. `version` is the bundle's, `manifest` that of the bundle that answered (an ensemble's: its first member's).
    `priors` are those of fleet_contract.answers. `inference` is whose answer it is, where one host's bundle gave it alone."""

    model: str
    version: str
    manifest: Manifest
    outputs: Tensors
    latency_us: int
    priors: np.ndarray | None = None
    inference: Inference | None = None


@dataclass(frozen=True)
class ModelView:
    """What local applications see of a model. `platform` as the Open Inference Protocol names it: onnx_onnxv1, tensorflow_lite, ensemble."""

    name: str
    version: str
    platform: str
    signature: Signature
    input: InputSpec


class Predictor(Protocol):
    """A model that local applications may call, from any thread."""

    @property
    def name(self) -> str: ...

    def view(self) -> ModelView | None:
        """None while there is no bundle: the model is known and not ready."""

    def predict(self, inputs: Tensors, *, timeout_s: float | None = None) -> Prediction:
        """Inputs that were checked against the signature. Raises as Host.infer does."""


class Catalogue(Protocol):
    """The models of this device by name: the fleet's, and those of its own."""

    def names(self) -> list[str]: ...

    def find(self, name: str) -> Predictor | None: ...
