"""Every kind of model behind the same loop: what it remembers, what it may be fed with, and what its answers become."""

import threading
from collections.abc import Sequence
from dataclasses import replace

import msgspec
import numpy as np
import pytest

from edge_agent.errors import Reject, Retry
from edge_agent.inference import planning
from edge_agent.inference.validation import batch_rows, check, fed_by_source
from edge_agent.monitor.books import Manners
from edge_agent.pipeline import Pace, Pipeline
from edge_agent.ports import ActiveModel, Inference, Input, Tensors
from fleet_contract import features
from fleet_contract.answers.detail import Boxes, Targets
from fleet_contract.bundle import Bundle
from fleet_contract.inputs import ImageInput, InputSpec, TensorsInput, VectorInput, WindowInput
from fleet_contract.manifest import State
from fleet_contract.messages import Event, Result, SketchWindow
from fleet_contract.outputs import Detection, OutputSpec, Raw, Regression
from fleet_contract.sketch import Feature, Grid
from fleet_contract.tensors import TensorSpec
from tests.fakes import agent_run_models as models
from tests.fakes.agent_run_world import BEGIN, FakeClock, FakeSource, FakeStore, vector_input
from tests.fakes.running_pipeline import running

PACE = Pace(idle_wait_s=0.001, max_idle_s=0.002, model_wait_s=0.001, retry_s=0.001, max_retry_s=0.002, manners=Manners(report_s=0.0))
SUM = State(input="before", output="after", dtype="float32", shape=[1, 1])


class Model:
    """Implements ports.Inferring: `answer` gives the outputs of complete inputs."""

    def __init__(
        self, answer, output: OutputSpec, given: InputSpec = models.VECTOR, states: Sequence[State] = (), version: str = "1"
    ) -> None:
        bundle = Bundle(models.bundle(version=version))
        manifest = msgspec.structs.replace(bundle.manifest, output=output, input=given, states=[*states])
        followed = [Feature(name, "input", -9, 9) for name in features.input_names(given)]
        followed += [Feature(name, "output", -9, 9) for name in features.output_names(output)]
        self.answer = answer
        self.model = ActiveModel(bundle.sha256, manifest, models.reference(given, Grid(followed, 8)))
        self.failures: dict[int, Exception] = {}
        self.calls: list[dict[str, np.ndarray]] = []

    def active(self) -> ActiveModel:
        return self.model

    def infer(self, inputs: Tensors, *, timeout_s: float | None = None) -> Inference:
        whole = planning.complete(self.model.manifest, inputs)
        self.calls.append(whole)
        failure = self.failures.pop(len(self.calls), None)
        if failure is not None:
            raise failure
        outputs = self.answer(whole)
        return Inference(self.model.sha256, self.model.manifest, outputs, 5, self.model.reference)


def summing(**options) -> Model:
    """Answers with the sum of all it has seen since it began."""

    def answer(inputs: Tensors) -> Tensors:
        after = inputs["before"] + inputs["input"][:, :1]
        return {"y": after, "after": after}

    return Model(answer, Raw([TensorSpec("y", "float32", [-1, 1])]), states=[SUM], **options)


def values_of(source: FakeSource, host: Model, last: str) -> list[float]:
    store = FakeStore()
    with running(Pipeline(source, host, store, FakeClock(), PACE)):
        store.wait_until(lambda: store.position == last)
    return [result.value for result in store.of(Result)]


def ones(count: int) -> list[Input]:
    return [vector_input(number, [1, 0]) for number in range(1, count + 1)]


class TestStates:
    def test_each_step_gets_what_the_last_one_left(self) -> None:
        assert values_of(FakeSource(ones(40)), summing(), "40") == [*range(1, 41)]

    def test_a_gap_begins_anew(self) -> None:
        inputs = ones(6)
        inputs[3] = replace(inputs[3], follows=False)
        assert values_of(FakeSource(inputs), summing(), "6") == [1, 2, 3, 1, 2, 3]

    @pytest.mark.parametrize("at", [2, 15, 16], ids=["within a batch", "at its end", "at the next one's begin"])
    def test_a_refused_input_is_a_gap(self, at: int) -> None:
        inputs = ones(20)
        inputs[at] = vector_input(at + 1, [99, 0])
        assert values_of(FakeSource(inputs), summing(), "20") == [*range(1, at + 1), *range(1, 20 - at)]

    def test_a_lost_worker_does_not_lose_it(self) -> None:
        host = summing()
        host.failures = {3: Retry("gone", code="worker-crashed")}
        assert values_of(FakeSource(ones(5)), host, "5") == [1, 2, 3, 4, 5]

    def test_a_step_without_an_answer_is_a_gap(self) -> None:
        host = summing()
        host.failures = {3: Reject("NaN", code="non-finite")}
        assert values_of(FakeSource(ones(5)), host, "5") == [1, 2, 1, 2]

    def test_another_model_begins_with_nothing(self) -> None:
        host, newer = summing(), summing(version="2")

        def swap(inputs: Tensors) -> Tensors:
            if len(host.calls) == 3:
                host.model, host.answer = newer.model, newer.answer
            return newer.answer(inputs)

        host.answer = swap
        assert values_of(FakeSource(ones(5)), host, "5") == [1, 2, 1, 2, 3]


def results_of(host: Model, inputs: list[Input]) -> list[Result]:
    store = FakeStore()
    with running(Pipeline(FakeSource(inputs), host, store, FakeClock(), PACE)):
        store.wait_until(lambda: len(store.of(Result)) == len(inputs))
    return store.of(Result)


def test_regression_tells_every_target() -> None:
    output = Regression("y", ["heat", "load"], [10, 1], [0, 0], ["C", "1"])
    (result,) = results_of(Model(lambda inputs: {"y": inputs["input"]}, output), [vector_input(1, [2, 3])])
    assert (result.label, result.value, result.detail) == (None, 20.0, Targets({"heat": 20.0, "load": 3.0}))
    assert result.abstained is msgspec.UNSET


def test_a_record_tells_the_best_boxes_and_how_many_there_were() -> None:
    output = Detection("boxes", "scores", ["thing"], max_boxes=150)
    boxes = np.array([[[0, n / 150, 1, (n + 1) / 150] for n in range(150)]], np.float32)
    (result,) = results_of(Model(lambda _: {"boxes": boxes, "scores": np.full((1, 150, 1), 0.9)}, output), ones(1))
    assert isinstance(result.detail, Boxes)
    assert (result.label, result.detail.found, len(result.detail.boxes)) == ("thing", 150, 100)


def test_losses_are_counted_with_the_next_commit() -> None:
    store, source = FakeStore(), FakeSource(ones(3))
    source.lost = {"queue-full": 7}
    pipeline = Pipeline(source, summing(), store, FakeClock(), PACE)
    with running(pipeline):
        store.wait_until(lambda: any(event.detail == {"queue-full": 7} for event in store.of(Event)))
    assert (pipeline.observe().inputs, pipeline.observe().refused) == (10, {"queue-full": 7})


def test_losses_are_told_while_nothing_comes() -> None:
    store, source = FakeStore(), FakeSource([])
    source.lost = {"out-of-order": 2}
    with running(Pipeline(source, summing(), store, FakeClock(step_s=1.0), PACE)):
        store.wait_until(lambda: any(event.detail == {"out-of-order": 2} for event in store.of(Event)))


def test_sinks_hear_what_is_committed() -> None:
    class Ear:
        def __init__(self) -> None:
            self.heard: list[str] = []
            self.enough = threading.Event()

        def emit(self, results: Sequence[Result]) -> None:
            self.heard += [result.input_id for result in results]
            if len(self.heard) == 20:
                self.enough.set()

        def dropped(self) -> int:
            return 0

        def close(self) -> None: ...

    ear = Ear()
    with running(Pipeline(FakeSource(ones(20)), summing(), FakeStore(), FakeClock(), PACE, sinks=[ear])):
        assert ear.enough.wait(30)
    assert ear.heard == [str(number) for number in range(1, 21)]


def test_what_cannot_be_read_again_for_another_model_is_counted() -> None:
    host, store = summing(), FakeStore()
    wider = VectorInput("input", ["a", "b", "c"], [-10] * 3, [10] * 3)

    class Live(FakeSource):
        def read(self, spec, after):
            self.inputs = [replace(vector_input(n, [1.0] * len(spec.columns)), cursor=None) for n in range(1, 4)]
            return super().read(spec, None)

    def swap(inputs: Tensors) -> Tensors:
        host.model = replace(host.model, manifest=msgspec.structs.replace(host.model.manifest, input=wider, states=[]), sha256="2")
        host.answer = lambda given: {"y": given["input"][:, :1]}
        raise Retry("other shape", code="model-swapped")

    host.answer = swap
    pipeline = Pipeline(Live([]), host, store, FakeClock(), PACE)
    with running(pipeline):
        store.wait_until(lambda: len(store.of(Result)) == 3)
    assert pipeline.observe().refused == {"model-changed": 3}


def test_a_model_that_only_applications_can_feed_consumes_nothing() -> None:
    host = Model(lambda _: {}, Raw([TensorSpec("y", "float32", [-1])]), TensorsInput([TensorSpec(n, "float32", [-1]) for n in "ab"]))
    source = FakeSource(ones(3))
    with running(Pipeline(source, host, FakeStore(), FakeClock(), PACE)) as thread:
        assert thread.is_alive()
    assert source.reads == []


@pytest.mark.parametrize(
    ("spec", "rows"),
    [
        pytest.param(models.VECTOR, 16, id="columns"),
        pytest.param(ImageInput("x", 640, 640, 3), 1, id="large pictures"),
        pytest.param(ImageInput("x", 300, 300, 1), 11, id="pictures of some size"),
        pytest.param(TensorsInput([TensorSpec("x", "float32", [-1, -1])]), 1, id="rows of any length"),
        pytest.param(TensorsInput([TensorSpec("x", "float32", [1, 4])]), 1, id="a graph of one row"),
    ],
)
def test_how_many_go_at_once(spec: InputSpec, rows: int) -> None:
    assert batch_rows(spec, 16) == rows


@pytest.mark.parametrize(
    ("tensors", "fed"),
    [
        pytest.param([TensorSpec("x", "int8", [-1, 2])], True, id="one tensor"),
        pytest.param([TensorSpec("x", "int8", [1, 2])], True, id="of one row"),
        pytest.param([TensorSpec("x", "int8", [4, 2])], False, id="of four rows"),
        pytest.param([TensorSpec("x", "string", [-1])], False, id="text"),
        pytest.param([TensorSpec(n, "int8", [-1]) for n in "xy"], False, id="two tensors"),
    ],
)
def test_which_models_a_source_can_feed(tensors: list[TensorSpec], fed: bool) -> None:
    assert (fed_by_source(TensorsInput(tensors)) is not None) == fed


WINDOW = WindowInput("x", ["a", "b"], [0, 0], [1, 5], length=3, stride=1)
WHOLE = TensorsInput([TensorSpec("x", "int16", [-1, 2])])
ANYTHING = TensorsInput([TensorSpec("x", "float32", [-1, -1], finite=False)])
WIDE = VectorInput("x", ["a"], [-1e300], [1e300])


@pytest.mark.parametrize(
    ("spec", "values", "reason"),
    [
        pytest.param(WINDOW, np.ones((3, 2)), None, id="a window"),
        pytest.param(WINDOW, np.array([[1, 5], [1, 5.5], [0, 0]]), "out-of-range", id="a sample above its column's high"),
        pytest.param(WINDOW, np.array([[1, 5], [np.nan, 5], [0, 0]]), "not-finite", id="a sample that is none"),
        pytest.param(WINDOW, np.ones((2, 2)), "wrong-shape", id="a short window"),
        pytest.param(WHOLE, np.array([1, 2]), None, id="whole numbers"),
        pytest.param(WHOLE, np.array([1.5, 2]), "wrong-shape", id="others where whole ones are wanted"),
        pytest.param(ANYTHING, np.array([np.nan, 1, 2]), None, id="NaN where it may be"),
        pytest.param(WIDE, np.array([3e38]), None, id="the largest float"),
        pytest.param(WIDE, np.array([1e39]), "not-finite", id="beyond the largest float"),
    ],
)
def test_what_may_reach_a_model(spec: InputSpec, values: np.ndarray, reason: str | None) -> None:
    taken = Input("1", BEGIN, "1", "application/json", b"", values)
    found = check([taken], spec, after_break=False)
    assert (dict(found.refused), found.is_broken) == ({} if reason is None else {reason: 1}, reason is not None)


def test_windows_of_sketches_follow_what_the_model_said() -> None:
    store, host = FakeStore(), summing()
    manifest = host.model.manifest
    drift = msgspec.structs.replace(manifest.policy.drift, window_inputs=4)
    host.model = replace(
        host.model, manifest=msgspec.structs.replace(manifest, policy=msgspec.structs.replace(manifest.policy, drift=drift))
    )
    with running(Pipeline(FakeSource(ones(8)), host, store, FakeClock(), PACE)):
        store.wait_until(lambda: len(store.of(SketchWindow)) == 2)
