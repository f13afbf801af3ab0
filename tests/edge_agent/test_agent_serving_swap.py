"""A new bundle comes while local applications ask: everybody gets an answer, of one bundle or of the other."""

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import numpy as np
import pytest

from edge_agent.catalogue import ModelView, Prediction
from edge_agent.clock import SystemClock
from edge_agent.errors import Retry
from edge_agent.inference.host import InferenceHost
from edge_agent.inference.models import HostedModel, Models
from edge_agent.ports import Tensors
from edge_agent.serving.guard import guard_of
from edge_agent.serving.http.server import HttpServer
from edge_agent.serving.requests import GivenTensor
from edge_agent.serving.rest.application import RestApplication
from edge_agent.serving.service import Call, Service
from edge_agent.serving.tally import Tally
from edge_client import Client
from firmware_profiles import catalog
from fleet_contract.bundle import Bundle
from fleet_contract.manifest import Manifest
from fleet_contract.outputs import Raw
from fleet_contract.signature import signature_of
from fleet_contract.tensors import ANY, TensorSpec
from tests.fakes import agent_run_models as models
from tests.fakes.agent_serving import LOOPBACK, VECTOR, manifest_of

CLIENTS = 4
ANSWERS = 200
ROW = np.array([[1, 2]], np.float32)
DEADLINE_S = 60


class Crowd:
    """Applications that ask all the time, each over a connection of its own."""

    def __init__(self, connect: Callable[[], Client]) -> None:
        self._stop = threading.Event()
        self._changed = threading.Condition()
        self.versions: Counter[str] = Counter()
        self.failures: list[Exception] = []
        self._threads = [threading.Thread(target=self._ask, args=(connect,)) for _ in range(CLIENTS)]

    def __enter__(self) -> "Crowd":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def wait_for(self, version: str) -> None:
        """Until many more have been answered by it, or one was not."""
        with self._changed:
            wanted = self.versions[version] + ANSWERS
            assert self._changed.wait_for(lambda: self.failures or self.versions[version] >= wanted, DEADLINE_S)

    def _ask(self, connect: Callable[[], Client]) -> None:
        with connect() as client:
            while not self._stop.is_set():
                try:
                    answer = client.infer("toy", {"input": ROW})
                    found: Exception | str = answer.version
                    np.testing.assert_allclose(answer.outputs["logits"], ROW @ WEIGHTS[answer.version])
                except Exception as error:
                    found = error
                with self._changed:
                    self.failures += [found] if isinstance(found, Exception) else []
                    self.versions += Counter([found] if isinstance(found, str) else [])
                    self._changed.notify_all()


WEIGHTS = {"1.0.0": models.WEIGHT, "2.0.0": -models.WEIGHT}


def bundle_of(version: str) -> Bundle:
    weight = WEIGHTS[version]
    return Bundle(models.bundle({"fp32": models.linear(weight)}, answers=models.KNOWN_INPUTS @ weight, version=version))


@pytest.fixture
def host() -> Iterator[InferenceHost]:
    host = InferenceHost(catalog.load("generic-x86-64"), SystemClock())
    yield host
    host.close()


def test_no_request_is_dropped_when_bundles_are_swapped(host: InferenceHost) -> None:
    host.activate(bundle_of("1.0.0"))
    service = Service(Models([HostedModel("toy", host)]), SystemClock(), Tally())
    server = HttpServer(LOOPBACK, RestApplication(service, guard_of(LOOPBACK, None)), SystemClock())
    server.start()
    with ExitStack() as closing:
        closing.callback(server.close)
        crowd = closing.enter_context(Crowd(lambda: Client(f"http://{server.address}")))
        for version in ("1.0.0", "2.0.0", "1.0.0"):
            host.activate(bundle_of(version))
            crowd.wait_for(version)
    assert crowd.failures == []
    assert {*crowd.versions} == {"1.0.0", "2.0.0"}


class SwappedMeanwhile:
    """Implements catalogue.Predictor and Catalogue: what answers is another bundle than what was seen."""

    name = "toy"

    def __init__(self, seen: Manifest, answers: Manifest, outputs: Tensors) -> None:
        self._view = ModelView(self.name, seen.version, "onnx_onnxv1", signature_of(seen), seen.input)
        self._prediction = Prediction(self.name, answers.version, answers, outputs, 1)

    def names(self) -> list[str]:
        return [self.name]

    def find(self, name: str) -> "SwappedMeanwhile":
        return self

    def view(self) -> ModelView:
        return self._view

    def predict(self, inputs: Tensors, *, timeout_s: float | None = None) -> Prediction:
        return self._prediction


@pytest.fixture
def service() -> Service:
    old, new = (manifest_of(VECTOR, Raw([TensorSpec(name, "float32", [ANY, 2])]), version=name) for name in ("old", "new"))
    return Service(SwappedMeanwhile(old, new, {"new": ROW}), SystemClock(), Tally())


def call(*, version: str | None = None, outputs: tuple[str, ...] = ()) -> Call:
    return Call("toy", version, [GivenTensor("x", "FP32", [1, 2], ROW.tobytes())], outputs)


class TestSwappedBetweenLookAndAnswer:
    def test_who_wants_any_version_and_all_outputs_gets_the_new_ones(self, service: Service) -> None:
        assert service.infer(call()).outputs == ("new",)

    @pytest.mark.parametrize("asked", [call(version="old"), call(outputs=("old",))], ids=["version", "outputs"])
    def test_who_wants_what_is_gone_is_told_to_ask_again(self, service: Service, asked: Call) -> None:
        with pytest.raises(Retry) as told:
            service.infer(asked)
        assert told.value.code == "model-swapped"
