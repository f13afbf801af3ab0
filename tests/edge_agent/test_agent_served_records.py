"""What local applications ask of the fleet's model leaves the same records as a source's inputs, and costs them nothing."""

import json
import threading
from collections.abc import Sequence
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import msgspec
import numpy as np
import pytest
import tritonclient.grpc as triton

from edge_agent.config import StateFolder
from edge_agent.errors import Reject, Retry
from edge_agent.idle import Idle
from edge_agent.inference.models import HostedModel, Models
from edge_agent.monitor import tally
from edge_agent.monitor.books import Manners
from edge_agent.monitor.recorder import Recorder
from edge_agent.monitor.sampling import Sampler
from edge_agent.monitor.served import Served, ServedBatch, apart, batches_of
from edge_agent.monitor.tray import Tray
from edge_agent.pipeline import Pace, Pipeline
from edge_agent.ports import Inference, Tensors
from edge_agent.serving.requests import GivenTensor
from edge_agent.serving.service import Call, Service
from edge_agent.serving.tally import Tally
from edge_client import Client, ClientError
from fleet_contract import features, limits
from fleet_contract.bundle import Bundle
from fleet_contract.inputs import ImageInput, InputSpec, TensorsInput, VectorInput, WindowInput
from fleet_contract.messages import Event, Follow, Record, Result, Sample, SketchWindow
from fleet_contract.order import SamplingCampaign
from fleet_contract.outputs import Detection, OutputSpec, Raw
from fleet_contract.sketch import Feature, Grid
from fleet_contract.tensors import ANY, TensorSpec
from tests.fakes import agent_run_models as models
from tests.fakes.agent_installed import agent, installed
from tests.fakes.agent_outbox import open_outbox, records_in
from tests.fakes.agent_run_world import BEGIN, FakeClock, FakeHost, FakeSource, FakeStore, vector_input
from tests.fakes.agent_serving import EchoPredictor, echo_manifest
from tests.fakes.running_pipeline import running

PACE = Pace(
    idle_wait_s=0.001,
    max_idle_s=0.002,
    model_wait_s=0.001,
    retry_s=0.001,
    max_retry_s=0.002,
    manners=Manners(report_s=0.0, sampling_idle_s=0.0, gather_s=0.0),
)
FOLLOW = Follow(id="4bf92f3577b34da6a3ce929d0e0e4736", parent="00f067aa0ba902b7")
RAW = Raw([TensorSpec("y", "float32", [ANY, 1])])


def inference(given: InputSpec = models.VECTOR, output: OutputSpec = RAW, outputs: Tensors | None = None, **options) -> Inference:
    bundle = Bundle(models.bundle(version=options.pop("version", "1.0.0")))
    manifest = msgspec.structs.replace(bundle.manifest, input=given, output=output)
    followed = [Feature(name, "input", -9, 300) for name in features.input_names(given)]
    followed += [Feature(name, "output", -9, 9) for name in features.output_names(output)]
    reference = models.reference(given, Grid(followed, 8))
    return Inference(bundle.sha256, manifest, outputs or {"y": np.ones((1, 1), np.float32)}, options.pop("latency_us", 5), reference)


def rows(count: int, first: int = 0, **options) -> Served:
    """A request of this many rows of two columns, each answered by its first column."""
    values = np.arange(first, first + 2 * count, dtype=np.float32).reshape(count, 2)
    return Served("", 0.0, {"input": values}, inference(outputs={"y": values[:, :1]}, **options))


def batches(*served: Served, first: int = 0) -> list[ServedBatch]:
    return list(batches_of(served, first, "e1", lambda at_s: BEGIN + timedelta(seconds=at_s)))


class TestBatches:
    def test_requests_of_one_bundle_are_recorded_as_one(self) -> None:
        (found,) = batches(rows(2, latency_us=5), rows(1, first=4, latency_us=7))
        np.testing.assert_array_equal(found.values, [[0, 1], [2, 3], [4, 5]])
        np.testing.assert_array_equal(found.inference.outputs["y"], [[0], [2], [4]])
        assert list(found.latencies_us) == [5, 5, 7]

    @pytest.mark.parametrize(
        "others",
        [
            pytest.param(rows(1, version="2.0.0"), id="another-bundle"),
            pytest.param(Served("", 0.0, {"input": np.ones((1, 2), np.float64)}, inference()), id="another-type"),
            pytest.param(Served("", 0.0, {"input": np.ones((1, 2), np.float32)}, inference(outputs={"y": np.ones((1, 2))})), id="outputs"),
            pytest.param(
                Served("", 0.0, {"input": np.ones((1, 2), np.float32)}, inference(outputs={"y": np.ones((1, 1)), "h": np.ones((4, 1))})),
                id="an-output-that-does-not-go-by-rows",
            ),
        ],
    )
    def test_what_cannot_stand_in_one_tensor_stays_apart_and_in_order(self, others: Served) -> None:
        found = batches(rows(2), others, rows(1))
        assert [len(batch.values) for batch in found] == [2, 1, 1]
        assert [taken.id for batch in found for taken in batch.inputs] == ["e1-0:0", "e1-0:1", "e1-2:0", "e1-3:0"]

    @pytest.mark.parametrize(
        ("given", "named"),
        [
            pytest.param("shelf-7", "shelf-7:0", id="callers"),
            pytest.param("", "e1-30:0", id="none"),
            pytest.param("a\0b", "e1-30:0", id="no-text-that-every-database-takes"),
            pytest.param("x" * limits.MAX_REQUEST_ID_CHARS, "x" * limits.MAX_REQUEST_ID_CHARS + ":0", id="longest"),
            pytest.param("x" * (limits.MAX_REQUEST_ID_CHARS + 1), "e1-30:0", id="too-long"),
        ],
    )
    def test_a_row_is_called_by_its_request(self, given: str, named: str) -> None:
        (found,) = batches(rows(1)._replace(id=given, at_s=3.0), first=30)
        assert [(taken.id, taken.at) for taken in found.inputs] == [(named, BEGIN + timedelta(seconds=3))]


PICTURE = ImageInput(tensor="x", height=4, width=4, channels=1)
SERIES = WindowInput(tensor="x", columns=["a"], low=[-9], high=[9], length=3, stride=1, flat=True)
BOXES = Detection(boxes="b", scores="s", classes=["no", "yes"], score_threshold=0.5, iou_threshold=0.5, max_boxes=3)
ONE = np.ones((1, 1), np.float32)


@pytest.mark.parametrize(
    ("given", "inputs", "media_type"),
    [
        pytest.param(VectorInput("x", ["a", "b"], [-9, -9], [9, 9]), {"x": np.ones((1, 2), np.float32)}, "application/json", id="columns"),
        pytest.param(SERIES, {"x": np.ones((1, 3), np.float32)}, "application/json", id="window"),
        pytest.param(PICTURE, {"x": np.full((1, 1, 4, 4), 7.6, np.float32)}, "image/png", id="picture"),
        pytest.param(PICTURE, {"x": np.full((1, 1, 4, 4), 7, np.uint8)}, "image/png", id="picture-of-bytes"),
        pytest.param(TensorsInput([TensorSpec("x", "int8", [ANY, 2])]), {"x": np.ones((1, 2), np.int8)}, None, id="tensor"),
        pytest.param(TensorsInput([TensorSpec("x", "float32", [2, 3])]), {"x": np.ones((2, 3), np.float32)}, None, id="not-by-rows"),
        pytest.param(
            TensorsInput([TensorSpec(name, "string", [ANY]) for name in "xy"]),
            {name: np.array([b"a"], object) for name in "xy"},
            None,
            id="texts",
        ),
    ],
)
def test_every_kind_of_input_leaves_a_result_a_sketch_and_a_sample_where_it_can_be_shown(
    given: InputSpec, inputs: Tensors, media_type: str | None
) -> None:
    found = inference(given, outputs={"y": ONE})
    policy = msgspec.structs.replace(found.manifest.policy, drift=msgspec.structs.replace(found.manifest.policy.drift, window_inputs=1))
    manifest = msgspec.structs.replace(found.manifest, policy=policy)
    served = Served("r", 0.0, inputs, Inference(found.sha256, manifest, found.outputs, 5, found.reference))
    sampler = Sampler(0.0, 0.0)
    (batch,) = batches(served)
    recorded = Recorder(sampler).record(batch.inference, batch.values, batch.inputs, [0], 0.0, batch.latencies_us)
    assert [type(record) for record in recorded] == [Result, SketchWindow]
    sampler.begin(SamplingCampaign(id="c", max_items=1, max_bytes=10_000), 0.0)
    chosen = sampler.due(1.0, exhausted=True)
    assert [candidate.media_type for candidate in chosen or []] == ([media_type] if media_type else [])


@pytest.mark.parametrize(
    ("followed", "parts"),
    [
        pytest.param("", [3], id="nobody"),
        pytest.param("0", [3], id="the-first"),
        pytest.param("2", [2, 1], id="the-last"),
        pytest.param("12", [1, 2], id="two-of-them"),
    ],
)
def test_a_request_that_is_followed_begins_a_part(followed: str, parts: list[int]) -> None:
    served = [rows(1)._replace(follow=FOLLOW if str(at) in followed else None) for at in range(3)]
    assert [len(part) for part in apart(served)] == parts


class TestTray:
    def test_what_is_too_much_is_counted_by_rows(self) -> None:
        tray = Tray(max_requests=2)
        for count in (1, 1, 3):
            tray.put(rows(count))
        served, lost = tray.empty()
        assert (len(served), lost) == (2, {"record-queue-full": 3})

    def test_bytes_are_bounded_too(self) -> None:
        tray = Tray(max_bytes=2 * rows(10).held_bytes)
        for _ in range(3):
            tray.put(rows(10))
        served, lost = tray.empty()
        assert (len(served), lost) == (2, {"record-queue-full": 10})
        tray.put(rows(10))
        assert len(tray.empty()[0]) == 1, "room again"

    def test_it_is_gathered_for_until_room_gets_short(self) -> None:
        tray = Tray(max_requests=4)
        for _ in range(2):
            tray.put(rows(1))
        assert tray.wait(60.0, 60.0) is False, "returns at once"

    def test_nobody_waits_at_a_closed_one(self) -> None:
        tray = Tray()
        tray.close()
        assert tray.wait(60.0, 60.0) is True


class Asked:
    """An agent's models, asked as local applications do."""

    def __init__(self, host: FakeHost, **options) -> None:
        self.tray = Tray(**options)
        local = EchoPredictor("local", echo_manifest("float32"))
        self.service = Service(Models([HostedModel("toy", host), local]), FakeClock(), Tally(), {"toy": self.tray})

    def ask(
        self, *values: Sequence[float], model: str = "toy", name: str = "input", request: str = "", follow: Follow | None = None
    ) -> None:
        data = np.array(values, "<f4")
        self.service.infer(Call(model, None, [GivenTensor(name, "FP32", list(data.shape), data.tobytes())], id=request, follow=follow))


def ids(store: FakeStore) -> list[str]:
    return [result.input_id for result in store.of(Result)]


class TestWithoutASource:
    def test_every_row_of_the_fleets_model_is_a_result_and_windows_fill(self) -> None:
        host, store = FakeHost(models.bundle(window_inputs=3)), FakeStore()
        asked = Asked(host)
        idle = Idle(store, FakeClock(), PACE, tray=asked.tray)
        asked.ask([3, 0], [1, 2], request="r")
        asked.ask([0, 0], model="local", name="x")
        with running(idle):
            store.wait_until(lambda: len(store.of(Result)) == 2)
            asked.ask([1, 1])
            store.wait_until(lambda: len(store.of(Result)) == 3)
        assert ids(store) == ["r:0", "r:1", "e1-2:0"]
        (window,) = store.of(SketchWindow)
        assert (window.first_input, window.inputs, window.bundle) == (0, 3, host.model.sha256)
        assert {result.latency_us for result in store.of(Result)} == {100}
        assert [result.label for result in store.of(Result)] == ["no", "yes", "no"]
        assert idle.observe().inputs == 3

    def test_a_callers_trace_goes_with_the_record_of_its_request(self) -> None:
        store, asked = FakeStore(failures=[2, 2]), Asked(FakeHost(models.bundle()))
        for request in ("before", "followed", "after"):
            asked.ask([1, 1], [0, 0], request=request, follow=FOLLOW if request == "followed" else None)
        with running(Idle(store, FakeClock(), PACE, tray=asked.tray)):
            store.wait_until(lambda: len(store.of(Result)) == 6)
        assert [(follow, result.input_id) for follow, result in store.followed] == [(FOLLOW, "followed:0")]
        assert ids(store) == [f"{request}:{row}" for request in ("before", "followed", "after") for row in (0, 1)]

    def test_it_counts_on_after_a_restart(self) -> None:
        host, store = FakeHost(models.bundle()), FakeStore()
        for expected in (1, 2):
            asked = Asked(host)
            asked.ask([1, 1])
            idle = Idle(store, FakeClock(), PACE, tray=asked.tray)
            with running(idle):
                store.wait_until(lambda: len(store.of(Result)) == expected)  # noqa: B023 - called within the round
            assert idle.observe().inputs == expected
        assert ids(store) == ["e1-0:0", "e1-1:0"]

    @pytest.mark.parametrize(
        ("failure", "values", "reason", "inputs"),
        [
            pytest.param(None, [[1, 20], [1, 1]], "out-of-range", 1, id="refused-before-it-is-read"),
            pytest.param(None, [[1, float("nan")]], "not-finite", 1, id="not-a-number"),
            pytest.param(Retry("full", code="overloaded"), [[1, 1]] * 3, "overloaded", 3, id="overloaded"),
            pytest.param(Reject("nan", code="non-finite"), [[1, 1]] * 2, "non-finite", 2, id="the-models-fault"),
        ],
    )
    def test_what_is_refused_is_counted_and_told(self, failure: Exception | None, values: list, reason: str, inputs: int) -> None:
        host, store = FakeHost(models.bundle(), {1: failure} if failure else {}), FakeStore()
        asked = Asked(host)
        with pytest.raises((Reject, Retry)):
            asked.ask(*values)
        idle = Idle(store, FakeClock(), PACE, tray=asked.tray)
        asked.ask([1, 1])
        with running(idle):
            store.wait_until(lambda: any(event.kind == "input.refused" for event in store.of(Event)))
        assert [event.detail for event in store.of(Event)] == [{reason: inputs}]
        assert (idle.observe().inputs, idle.observe().refused) == (1 + inputs, {reason: inputs})

    def test_a_full_tray_is_told_like_any_other_loss(self) -> None:
        store, asked = FakeStore(), Asked(FakeHost(models.bundle()), max_requests=2)
        for _ in range(5):
            asked.ask([1, 1])
        idle = Idle(store, FakeClock(), PACE, tray=asked.tray)
        with running(idle):
            store.wait_until(lambda: len(store.of(Result)) == 2)
        assert (idle.observe().inputs, idle.observe().refused) == (5, {"record-queue-full": 3})

    def test_a_full_disk_loses_and_doubles_nothing(self) -> None:
        store, asked = FakeStore(failures=[5]), Asked(FakeHost(models.bundle()))
        asked.ask([1, 1])
        with running(Idle(store, FakeClock(), PACE, tray=asked.tray)):
            store.wait_until(lambda: len(store.of(Result)) == 1)
        assert (ids(store), store.refused) == (["e1-0:0"], 5)

    def test_an_answer_that_nobody_foresaw_costs_its_records_alone(self) -> None:
        store, tray = FakeStore(), Tray()
        idle = Idle(store, FakeClock(), PACE, tray=tray)
        with running(idle):
            tray.put(rows(2)._replace(inference=inference(outputs={"z": ONE})))
            store.wait_until(lambda: "pipeline" in store.marks and "record-failed" in store.marks["pipeline"])
            tray.put(rows(1))
            store.wait_until(lambda: len(store.of(Result)) == 1)
        assert (idle.observe().inputs, idle.observe().refused) == (3, {"record-failed": 2})

    def test_a_campaign_takes_its_samples_from_them(self) -> None:
        store, asked = FakeStore(), Asked(FakeHost(models.bundle()))
        for number in range(12):
            asked.ask([number % 7, 1], request=f"r{number}")
        idle = Idle(store, FakeClock(), PACE, tray=asked.tray)
        idle.set_campaign(SamplingCampaign(id="drift-1", max_items=4, max_bytes=10_000))
        with running(idle):
            store.wait_until(lambda: any(event.kind == "sampling.done" for event in store.of(Event)))
        assert len(store.of(Sample)) == 4
        assert all(json.loads(sample.data)[1] == 1 for sample in store.of(Sample))
        assert {sample.input_id for sample in store.of(Sample)} <= {*ids(store)}

    def test_results_go_to_the_sinks(self) -> None:
        store, asked, sink = FakeStore(), Asked(FakeHost(models.bundle())), Kept()
        asked.ask([1, 1], request="r")
        with running(Idle(store, FakeClock(), PACE, [sink], asked.tray)):
            assert sink.came.wait(30)
        assert [result.input_id for result in sink.results] == ["r:0"]


class Kept:
    """Implements ports.Sink."""

    def __init__(self) -> None:
        self.results: list[Result] = []
        self.came = threading.Event()

    def emit(self, results: Sequence[Result]) -> None:
        self.results += results
        self.came.set()

    def dropped(self) -> int:
        return 0

    def close(self) -> None: ...


def test_beside_a_source_every_input_counts_once_and_windows_do_not_mix() -> None:
    host, store = FakeHost(models.bundle(window_inputs=10)), FakeStore()
    asked = Asked(host)
    source = FakeSource([vector_input(number) for number in range(1, 26)])
    pipeline = Pipeline(source, host, store, FakeClock(), PACE, tray=asked.tray)
    for number in range(15):
        asked.ask([1, 1], request=f"r{number}")
    with running(pipeline):
        store.wait_until(lambda: len(store.of(Result)) == 40)
    assert pipeline.observe().inputs == 40
    assert sorted(id for id in ids(store) if id.startswith("r")) == sorted(f"r{number}:0" for number in range(15))
    assert store.position == "25"
    assert [window.inputs for window in store.of(SketchWindow)] == [10] * 3, "two of the source, one of the applications"


CONFIGURATION = """
[serving]
http = ["unix:{folder}/http"]
grpc = ["unix:{folder}/grpc"]
record = {record}

[[sinks]]
kind = "jsonl"
path = "{folder}/results.jsonl"
"""


def recorded(state: StateFolder) -> tuple[list[Record], tally.Tally]:
    """As it waits for the server, and what is counted."""
    with closing(open_outbox(state.outbox)) as outbox:
        return records_in(outbox.batches(100)), tally.from_mark(outbox.mark(tally.MARK))


@pytest.mark.e2e
@pytest.mark.parametrize("record", ["true", "false"])
def test_a_device_that_only_local_applications_ask_tells_the_fleet_of_it_unless_its_owner_says_no(record: str, tmp_path: Path) -> None:
    state = installed(tmp_path, models.bundle(window_inputs=4))
    (tmp_path / "agent.toml").write_text(CONFIGURATION.format(folder=tmp_path, record=record))
    row = np.array([[1, 2], [-3, 4]], np.float32)
    with agent(["run", "--state", str(state.root), "--config", f"{tmp_path}/agent.toml"], tmp_path / "log") as process:
        process.until(lambda: (tmp_path / "http").exists())
        with Client(f"unix:{tmp_path}/http") as client:
            process.until(lambda: client.is_ready("toy"))
            for number in range(4):
                client.infer("toy", {"input": row}, request_id=f"shelf-{number}")
            with pytest.raises(ClientError, match="outside"):
                client.infer("toy", {"input": row * 100})
        with closing(triton.InferenceServerClient(f"unix:{tmp_path}/grpc")) as foreign:
            given = triton.InferInput("input", [2, 2], "FP32")
            given.set_data_from_numpy(row)
            foreign.infer("toy", [given], request_id="shelf-4")
        if record == "true":
            results = tmp_path / "results.jsonl"
            process.until(lambda: results.exists() and len(results.read_text().splitlines()) == 10)
        assert process.end() == 0
    found, counted = recorded(state)
    answered, refused = (10, {"out-of-range": 1}) if record == "true" else (0, {})
    named = [f"shelf-{number}:{row}" for number in range(answered // 2) for row in range(2)]
    assert [one.input_id for one in found if isinstance(one, Result)] == named
    assert [one.inputs for one in found if isinstance(one, SketchWindow)] == [4] * (answered // 4)
    assert (counted.inputs, counted.refused) == (answered + len(refused), refused)
