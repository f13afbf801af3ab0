"""Models that local applications may call without a worker: what they answer is what they were given."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from edge_agent.catalogue import ModelView, Prediction
from edge_agent.clock import SystemClock
from edge_agent.errors import AgentError
from edge_agent.ports import Tensors
from edge_agent.serving.address import Address, TcpAddress
from edge_agent.serving.guard import guard_of
from edge_agent.serving.http.bounds import Bounds
from edge_agent.serving.http.server import HttpServer
from edge_agent.serving.rest.application import RestApplication
from edge_agent.serving.service import Service
from edge_agent.serving.tally import Tally
from fleet_contract.inputs import InputSpec, TensorsInput, VectorInput
from fleet_contract.manifest import Lineage, Manifest, State, Variant
from fleet_contract.outputs import Classification, OutputSpec, Raw
from fleet_contract.signature import served_signature
from fleet_contract.tensors import ANY, DType, TensorSpec

DTYPES: tuple[DType, ...] = DType.__args__
LOOPBACK = TcpAddress("127.0.0.1", 0)
VECTOR = VectorInput(tensor="x", columns=["a", "b"], low=[-10.0, 0.0], high=[10.0, 5.0])
CLASSES = Classification(tensor="x", classes=["no", "yes"])


def manifest_of(given: InputSpec, output: OutputSpec, *, states: list[State] | None = None, version: str = "1.0.0") -> Manifest:
    return Manifest(
        task="toy",
        version=version,
        input=given,
        output=output,
        states=states or [],
        variants=[Variant(name="fp32", entry="m.onnx", runtime="onnxruntime", precision="fp32", tolerance=0.0)],
        known_answers="k",
        reference="r",
        card="c",
        profiles=["any"],
        lineage=Lineage(task_sha256="0" * 64, data_sha256="0" * 64, seed=0, code="test"),
        entries={},
    )


def echo_manifest(dtype: DType, *, finite: bool = True) -> Manifest:
    """One tensor of any number of rows and columns, given back under the same name."""
    tensors = [TensorSpec("x", dtype, [ANY, ANY], finite)]
    return manifest_of(TensorsInput(tensors), Raw(tensors))


@dataclass
class EchoPredictor:
    """Implements catalogue.Predictor: its outputs are its inputs, or `failure` is raised, once `open` is set."""

    name: str
    manifest: Manifest | None
    failure: AgentError | None = None
    open: threading.Event = field(default_factory=threading.Event)
    entered: threading.Event = field(default_factory=threading.Event)
    timeouts_s: list[float | None] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.open.set()
        self._view = None
        if self.manifest is not None:
            self._view = ModelView(self.name, self.manifest.version, "onnx_onnxv1", served_signature(self.manifest), self.manifest.input)

    def view(self) -> ModelView | None:
        return self._view

    def predict(self, inputs: Tensors, *, timeout_s: float | None = None) -> Prediction:
        self.timeouts_s.append(timeout_s)
        self.entered.set()
        self.open.wait(30)
        if self.failure is not None:
            raise self.failure
        left = {state.output: inputs.get(state.input, np.zeros(state.shape, state.dtype)) for state in self.manifest.states}
        return Prediction(self.name, self.manifest.version, self.manifest, {**inputs, **left}, 1)


class EchoCatalogue:
    """Implements catalogue.Catalogue."""

    def __init__(self, *predictors: EchoPredictor) -> None:
        self._predictors = {predictor.name: predictor for predictor in predictors}

    def names(self) -> list[str]:
        return list(self._predictors)

    def find(self, name: str) -> EchoPredictor | None:
        return self._predictors.get(name)


def every_dtype() -> EchoCatalogue:
    """One model a type, of its name; `toy` takes two columns and tells classes."""
    models = [EchoPredictor(dtype, echo_manifest(dtype)) for dtype in DTYPES]
    return EchoCatalogue(*models, EchoPredictor("toy", manifest_of(VECTOR, CLASSES)))


@contextmanager
def rest_server(
    catalogue: EchoCatalogue, address: Address = LOOPBACK, *, bounds: Bounds = Bounds(closing_s=5.0), token_file: Path | None = None
) -> Iterator[HttpServer]:
    tally = Tally()
    service = Service(catalogue, SystemClock(), tally)
    application = RestApplication(service, guard_of(address, token_file), [tally.metrics])
    server = HttpServer(address, application, SystemClock(), bounds)
    server.start()
    try:
        yield server
    finally:
        server.close()
