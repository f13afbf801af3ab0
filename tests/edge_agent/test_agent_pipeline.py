"""Nothing lost, nothing twice: the loop from source to store, under every failure of its neighbours."""

import os
import signal
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge_agent.clock import SystemClock
from edge_agent.errors import Fatal, Reject, Retry
from edge_agent.inference.host import InferenceHost
from edge_agent.monitor.books import Manners
from edge_agent.pipeline import Pace, Pipeline
from edge_agent.sources.factory import open_source
from firmware_profiles import catalog
from fleet_contract.bundle import Bundle
from fleet_contract.messages import Event, Result, Sample, SketchWindow
from fleet_contract.order import SamplingCampaign
from tests.fakes import agent_run_models as models
from tests.fakes.agent_run_world import FakeClock, FakeHost, FakeSource, FakeStore, vector_input
from tests.fakes.running_pipeline import running

PACE = Pace(idle_wait_s=0.001, max_idle_s=0.002, model_wait_s=0.001, retry_s=0.001, max_retry_s=0.002, manners=Manners(sampling_idle_s=0.0))
CAMPAIGN = SamplingCampaign(id="drift-1", max_items=10, max_bytes=10_000)


def run_through(source: FakeSource, host: FakeHost, store: FakeStore, clock: FakeClock | None = None, pace: Pace = PACE) -> Pipeline:
    """Until all that the source holds is committed."""
    pipeline = Pipeline(source, host, store, clock or FakeClock(), pace)
    with running(pipeline):
        store.wait_until(lambda: store.position == source.inputs[-1].cursor)
    return pipeline


def ids(store: FakeStore) -> list[str]:
    return [result.input_id for result in store.of(Result)]


def numbered(count: int, first: int = 1) -> list:
    return [vector_input(number) for number in range(first, first + count)]


def test_every_input_gives_one_result_in_order() -> None:
    store, host = FakeStore(), FakeHost(models.bundle())
    pipeline = run_through(FakeSource(numbered(40)), host, store)
    assert ids(store) == [str(number) for number in range(1, 41)]
    assert {result.bundle for result in store.of(Result)} == {host.model.sha256}
    assert pipeline.observe().inputs == 40


def test_a_result_holds_label_probability_and_latency() -> None:
    store = FakeStore()
    run_through(FakeSource([vector_input(1, [3, 0])]), FakeHost(models.bundle()), store)
    (result,) = store.of(Result)
    assert (result.label, result.latency_us) == ("no", 100)
    assert result.value == pytest.approx(1 / (1 + np.exp(-6)), abs=1e-6)


def test_records_and_cursor_of_a_micro_batch_are_one_append() -> None:
    store = FakeStore()
    run_through(FakeSource(numbered(40)), FakeHost(models.bundle()), store)
    assert [len(append) for append in store.appends] == [16, 16, 8]


def test_a_pause_of_the_source_does_not_hold_inputs_back() -> None:
    store = FakeStore()
    run_through(FakeSource([*numbered(3), None, *numbered(2, first=4)]), FakeHost(models.bundle()), store)
    assert [len(append) for append in store.appends] == [3, 2]


def test_it_goes_on_after_the_stores_cursor() -> None:
    store, inputs = FakeStore(), numbered(30)
    run_through(FakeSource(inputs[:20]), FakeHost(models.bundle()), store)
    again = run_through(FakeSource(inputs), FakeHost(models.bundle()), store)
    assert ids(store) == [str(number) for number in range(1, 31)]
    assert again.observe().inputs == 30


@pytest.mark.parametrize("code", ["worker-crashed", "worker-timeout", "worker-unavailable", "no-model"])
def test_a_lost_worker_loses_no_input(code: str) -> None:
    store = FakeStore()
    run_through(FakeSource(numbered(40)), FakeHost(models.bundle(), {2: Retry("gone", code=code)}), store)
    assert ids(store) == [str(number) for number in range(1, 41)]
    crashed = [event.detail for event in store.of(Event) if event.kind == "worker.crashed"]
    assert crashed == ([] if code == "no-model" else [{"code": code}])


def test_a_worker_that_stays_away_is_told_once() -> None:
    store = FakeStore()
    away = dict.fromkeys(range(1, 20), Retry("no start", code="worker-unavailable"))
    run_through(FakeSource(numbered(5)), FakeHost(models.bundle(), away), store)
    assert [event.kind for event in store.of(Event)] == ["worker.crashed"]


def test_a_full_disk_loses_no_input_and_doubles_none() -> None:
    store = FakeStore(failures=[3, 0, 2])
    run_through(FakeSource(numbered(60)), FakeHost(models.bundle()), store)
    assert store.refused == 5
    assert ids(store) == [str(number) for number in range(1, 61)]


def test_what_its_source_forgets_never_waits_for_the_disk_and_is_counted() -> None:
    store = FakeStore(failures=[10**9])
    live = [replace(one, cursor=None) for one in numbered(20)]
    pipeline = Pipeline(FakeSource(live), FakeHost(models.bundle()), store, FakeClock(), PACE)
    with running(pipeline):
        store.wait_until(lambda: sum(isinstance(record, Result) for record, _ in store.dropped) == 20)
    dropped = [(record.input_id, reason) for record, reason in store.dropped if isinstance(record, Result)]
    assert dropped == [(str(number), "disk-slow") for number in range(1, 21)]
    assert (store.records, pipeline.observe().inputs) == ([], 20)


def test_stopping_while_the_disk_is_full_commits_nothing_more() -> None:
    store = FakeStore(failures=[10**9])
    pipeline = Pipeline(FakeSource(numbered(5)), FakeHost(models.bundle()), store, FakeClock(), PACE)
    with running(pipeline):
        pass
    assert (store.records, store.position, pipeline.observe().inputs) == ([], None, 0)


def test_refused_inputs_are_counted_by_reason_and_pass_the_cursor() -> None:
    store, host = FakeStore(), FakeHost(models.bundle(window_inputs=4))
    bad = [
        vector_input(1, refusal="bad-row"),
        vector_input(2, [np.nan, 0]),
        vector_input(3, [11, 0]),
        vector_input(4, [np.inf, 0]),
        vector_input(5, [1, 2, 3]),
    ]
    pipeline = run_through(FakeSource([*bad, *numbered(4, first=6)]), host, store)
    counts = {"bad-row": 1, "not-finite": 2, "out-of-range": 1, "wrong-shape": 1}
    assert pipeline.observe().refused == counts
    assert [event.detail for event in store.of(Event) if event.kind == "input.refused"] == [counts]
    assert ids(store) == ["6", "7", "8", "9"]
    assert (host.rows, pipeline.observe().inputs) == ([4], 9)


def test_a_stream_of_bad_inputs_alone_is_told_in_time() -> None:
    store, host = FakeStore(), FakeHost(models.bundle())
    source = FakeSource([vector_input(n, refusal="corrupt-image") for n in range(1, 33)])
    pipeline = Pipeline(source, host, store, FakeClock(step_s=1.0), PACE)
    with running(pipeline):
        store.wait_until(lambda: sum(e.detail["corrupt-image"] for e in store.of(Event)) == 32)
    assert (host.calls, store.position) == (0, "32")


def test_refusals_that_no_event_has_told_survive_a_restart() -> None:
    store = FakeStore()
    run_through(FakeSource([vector_input(1, refusal="bad-row")]), FakeHost(models.bundle()), store)
    assert store.of(Event) == []
    host = FakeHost(models.bundle(window_inputs=2))
    run_through(FakeSource([vector_input(1, refusal="bad-row"), *numbered(2, first=2)]), host, store)
    assert [event.detail for event in store.of(Event)] == [{"bad-row": 1}]


def test_an_input_that_kills_the_worker_is_refused_and_costs_only_itself() -> None:
    store, host = FakeStore(), FakeHost(models.bundle())
    host.poison = lambda batch: Retry("gone", code="worker-crashed") if (batch[:, 0] == 9).any() else None
    pipeline = run_through(FakeSource([vector_input(1), vector_input(2, [9, 0]), vector_input(3)]), host, store)
    assert ids(store) == ["1", "3"]
    assert pipeline.observe().refused == {"worker-crashed": 1}


def test_an_input_whose_answer_is_not_finite_is_refused() -> None:
    store, host = FakeStore(), FakeHost(models.bundle())
    host.poison = lambda batch: Reject("NaN", code="non-finite") if (batch[:, 0] == 9).any() else None
    pipeline = run_through(FakeSource([vector_input(1), vector_input(2, [9, 0]), vector_input(3)]), host, store)
    assert ids(store) == ["1", "3"]
    assert pipeline.observe().refused == {"answer-non-finite": 1}


def test_windows_close_at_their_size() -> None:
    store = FakeStore()
    run_through(FakeSource(numbered(45)), FakeHost(models.bundle(window_inputs=20)), store)
    assert [(window.first_input, window.inputs) for window in store.of(SketchWindow)] == [(0, 20), (20, 20)]


def test_without_a_model_nothing_is_consumed() -> None:
    source, store, host = FakeSource(numbered(5)), FakeStore(), FakeHost(None)
    pipeline = Pipeline(source, host, store, FakeClock(), PACE)
    with running(pipeline):
        assert source.reads == []
        host.swap(models.bundle())
        store.wait_until(lambda: len(store.records) == 5)


def test_a_swap_to_another_shape_reads_again_for_it() -> None:
    """The batch in hand was cut for the old model: it is read again from the cursor, not lost."""
    store, host = FakeStore(), FakeHost(models.bundle())
    wider = models.bundle(
        spec=models.VectorInput(tensor="input", columns=["a", "b", "c"], low=[-10.0] * 3, high=[10.0] * 3), version="2.0.0"
    )

    class Source(FakeSource):
        def read(self, spec, after):
            self.inputs = [vector_input(n, [1.0] * len(spec.columns)) for n in range(1, 31)]
            return super().read(spec, after)

    source = Source(numbered(30))

    def swap(batch: np.ndarray) -> Exception | None:
        if host.calls == 2:
            host.swap(wider)
            return Retry("other shape", code="model-swapped")
        return None

    host.poison = swap
    run_through(source, host, store)
    assert ids(store) == [str(number) for number in range(1, 31)]
    assert [(len(spec.columns), after) for spec, after in source.reads] == [(2, None), (3, "16")]


@pytest.mark.parametrize(
    "failure",
    [
        pytest.param(Reject("not finite", code="non-finite"), id="an answer that is none"),
        pytest.param(Retry("gone", code="worker-crashed"), id="a lost worker"),
        pytest.param(Retry("late", code="worker-timeout"), id="one that hangs"),
    ],
)
def test_what_a_bundle_on_trial_cannot_answer_goes_to_the_one_that_takes_its_place(failure: Exception) -> None:
    good, bad = models.bundle(), models.bundle(version="2.0.0")
    store, host = FakeStore(), FakeHost(bad)
    host.poison = lambda batch: failure if host.model.manifest.version == "2.0.0" else None
    pipeline = Pipeline(FakeSource(numbered(40)), host, store, FakeClock(), PACE, appeal=lambda: host.swap(good))
    with running(pipeline):
        store.wait_until(lambda: store.position == "40")
    assert ids(store) == [str(number) for number in range(1, 41)]
    assert pipeline.observe().refused == {}


def test_an_exhausted_source_is_waited_beside() -> None:
    store = FakeStore()
    source = FakeSource(numbered(5), ends=True)
    pipeline = Pipeline(source, FakeHost(models.bundle()), store, FakeClock(), PACE)
    with running(pipeline) as thread:
        store.wait_until(lambda: len(store.records) == 5)
        pipeline.set_campaign(CAMPAIGN)
        store.wait_until(lambda: len(store.of(Sample)) == 5)
        assert thread.is_alive()
    assert pipeline.observe().exhausted


def test_a_source_that_can_never_fit_is_fatal(tmp_path: Path) -> None:
    (tmp_path / "s.csv").write_text("a,x\n1,2\n")
    source = open_source(f"csv:{tmp_path}/s.csv", FakeClock())
    with (
        pytest.raises(Fatal, match="lacks the columns b"),
        running(Pipeline(source, FakeHost(models.bundle()), FakeStore(), FakeClock(), PACE)) as t,
    ):
        t.join(30)
    source.close()


class TestCampaign:
    def _sampled(self, store: FakeStore, count: int = 60, campaign: SamplingCampaign = CAMPAIGN) -> Pipeline:
        source = FakeSource(numbered(count))
        pipeline = Pipeline(source, FakeHost(models.bundle(window_inputs=5)), store, FakeClock(), PACE)
        pipeline.set_campaign(campaign)
        with running(pipeline):
            store.wait_until(lambda: any(event.kind == "sampling.done" for event in store.of(Event)))
            store.wait_until(lambda: len(store.of(Result)) == count)
        return pipeline

    def test_samples_their_end_and_the_mark_are_one_append(self) -> None:
        store = FakeStore()
        pipeline = self._sampled(store)
        (append,) = [records for records in store.appends if any(isinstance(record, Sample) for record in records)]
        assert [type(record) for record in append] == [Sample] * 10 + [Event]
        assert append[-1].detail["items"] == 10
        assert store.marks["campaign"] == "drift-1"
        assert pipeline.observe().campaign is None

    def test_a_sample_is_the_input_as_acquired(self) -> None:
        store = FakeStore()
        self._sampled(store)
        labels = {result.input_id: result.label for result in store.of(Result)}
        for sample in store.of(Sample):
            assert sample.data == vector_input(int(sample.input_id)).data
            assert (sample.label, sample.campaign) == (labels[sample.input_id], "drift-1")

    def test_a_campaign_is_done_once_even_across_restarts(self) -> None:
        store = FakeStore()
        self._sampled(store)
        pipeline = Pipeline(FakeSource(numbered(100)), FakeHost(models.bundle(window_inputs=5)), store, FakeClock(), PACE)
        pipeline.set_campaign(CAMPAIGN)
        with running(pipeline):
            store.wait_until(lambda: len(store.of(Result)) == 100)
        assert len(store.of(Sample)) == 10

    def test_a_full_disk_does_not_lose_the_campaign(self) -> None:
        store = FakeStore(failures=[0, 0, 5])
        self._sampled(store)
        assert len(store.of(Sample)) == 10


class TestRealParts:
    """A real worker with a real model, a real folder of pictures, a real CSV file."""

    @pytest.fixture
    def host(self):
        host = InferenceHost(catalog.load("generic-x86-64"), SystemClock())
        yield host
        host.close()

    def test_a_folder_of_frames_with_a_corrupt_one(self, host: InferenceHost, tmp_path: Path) -> None:
        frames = tmp_path / "frames"
        frames.mkdir()
        picture = cv2.imencode(".jpg", np.full((16, 16), 100, np.uint8))[1].tobytes()
        for number in range(20):
            (frames / f"{number:03d}.jpg").write_bytes(picture[:50] if number == 7 else picture)
        answers = np.array([[-100, 100]] * 2, np.float32)
        known = np.full((2, 1, 8, 8), 100, np.uint8)
        (tmp_path / "b").write_bytes(
            models.bundle({"fp32": models.flat_image()}, spec=models.IMAGE, inputs=known, answers=answers, window_inputs=19)
        )
        host.activate(Bundle(tmp_path / "b"))
        store = FakeStore()
        pipeline = Pipeline(open_source(f"camera:{frames}", SystemClock()), host, store, SystemClock(), PACE)
        with running(pipeline):
            store.wait_until(lambda: store.position == "019.jpg")
        assert ids(store) == [f"{number:03d}.jpg" for number in range(20) if number != 7]
        assert pipeline.observe().refused == {"corrupt-image": 1}
        assert len(store.of(SketchWindow)) == 1
        assert [event.detail for event in store.of(Event)] == [{"corrupt-image": 1}]

    def test_a_worker_killed_under_load_loses_no_row(self, host: InferenceHost, tmp_path: Path) -> None:
        rows = "".join(f"{number % 9},{number % 5}\n" for number in range(400))
        (tmp_path / "s.csv").write_text("a,b\n" + rows)
        (tmp_path / "b").write_bytes(models.bundle())
        host.activate(Bundle(tmp_path / "b"))
        store = FakeStore()
        source = open_source(f"csv:{tmp_path}/s.csv", SystemClock())
        with running(Pipeline(source, host, store, SystemClock(), PACE)):
            store.wait_until(lambda: len(store.of(Result)) >= 32)
            os.kill(host.worker_pids[0], signal.SIGKILL)
            store.wait_until(lambda: store.position == "400")
        source.close()
        assert ids(store) == [str(number) for number in range(1, 401)]
