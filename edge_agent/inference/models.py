"""The models of this device by name, as local applications call them."""

from collections.abc import Sequence

from edge_agent.catalogue import ModelView, Prediction, Predictor
from edge_agent.errors import Fatal
from edge_agent.ports import ActiveModel, Inferring, Tensors
from fleet_contract.signature import served_signature

_PLATFORMS = {"onnxruntime": "onnx_onnxv1", "litert": "tensorflow_lite"}


class HostedModel:
    """Implements catalogue.Predictor: whatever bundle `host` runs just now."""

    def __init__(self, name: str, host: Inferring) -> None:
        self._name = name
        self._host = host
        self._seen: tuple[str, ModelView] | None = None

    @property
    def name(self) -> str:
        return self._name

    def view(self) -> ModelView | None:
        """The same object while the bundle stays."""
        model, seen = self._host.active(), self._seen
        if model is None:
            return None
        if seen is None or seen[0] != model.sha256:
            seen = self._seen = (model.sha256, _view(self._name, model))
        return seen[1]

    def predict(self, inputs: Tensors, *, timeout_s: float | None = None) -> Prediction:
        found = self._host.infer(inputs, timeout_s=timeout_s)
        return Prediction(self._name, found.manifest.version, found.manifest, found.outputs, found.latency_us, found.priors, found)


class Models:
    """Implements catalogue.Catalogue."""

    def __init__(self, predictors: Sequence[Predictor]) -> None:
        """Raises Fatal when two have the same name."""
        self._predictors = {predictor.name: predictor for predictor in predictors}
        if len(self._predictors) != len(predictors):
            names = [predictor.name for predictor in predictors]
            twice = next(name for name in names if names.count(name) > 1)
            raise Fatal(f"two models are called {twice!r}; give one of them another name", code="config")

    def names(self) -> list[str]:
        return [*self._predictors]

    def find(self, name: str) -> Predictor | None:
        return self._predictors.get(name)


def _view(name: str, model: ActiveModel) -> ModelView:
    manifest = model.manifest
    return ModelView(name, manifest.version, _PLATFORMS[manifest.variants[0].runtime], served_signature(manifest), manifest.input)
