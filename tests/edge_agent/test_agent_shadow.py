"""A candidate beside the model that serves: it sees what that one sees, is compared, and nobody waits for it or hears it."""

import threading
from dataclasses import replace

import numpy as np
import pytest

from edge_agent.errors import Reject, Retry
from edge_agent.inference.comparison import Comparison, compare
from edge_agent.inference.shadow import COMPARED, Shadow, ShadowedHost
from edge_agent.ports import ActiveModel, Inference, Tensors
from fleet_contract.answers import Answers
from fleet_contract.inputs import VectorInput
from fleet_contract.manifest import Manifest, State
from fleet_contract.messages import Event
from fleet_contract.outputs import Classification
from tests.fakes import agent_run_models as models
from tests.fakes.agent_run_world import FakeClock
from tests.fakes.agent_serving import VECTOR, manifest_of

OUTPUT = Classification(tensor="y", classes=["no", "yes"], activation="none")
OTHER_INPUT = VectorInput(tensor="z", columns=["a"], low=[0.0], high=[1.0])
STEP = State(input="h", output="h2", dtype="float32", shape=[1, 2])
REFERENCE = models.reference()
DEADLINE_S = 30


class ScriptedHost:
    """Implements ports.Inferring: answers every row with `row`, once `open` is set."""

    def __init__(self, row, *, sha256: str = "a" * 64, manifest: Manifest | None = None, error: Exception | None = None) -> None:
        self.row, self.error = np.array(row, np.float32), error
        self.model: ActiveModel | None = ActiveModel(sha256, manifest or manifest_of(VECTOR, OUTPUT), REFERENCE)
        self.open = threading.Event()
        self.open.set()
        self.entered = threading.Event()
        self.asked: list[Tensors] = []

    def active(self) -> ActiveModel | None:
        return self.model

    def infer(self, inputs: Tensors, *, timeout_s: float | None = None) -> Inference:
        self.entered.set()
        if not self.open.wait(DEADLINE_S):
            raise TimeoutError
        if self.error:
            raise self.error
        self.asked.append(inputs)
        rows = len(inputs["x"])
        return Inference(self.model.sha256, self.model.manifest, {"y": np.tile(self.row, (rows, 1))}, 10 * rows, REFERENCE)


class World:
    """A model that serves, its candidate, and what is recorded."""

    def __init__(self, candidate: ScriptedHost, *, every_inputs: int = 1_000, record=None) -> None:
        self.events: list[Event] = []
        self.serving = ScriptedHost([0.9, 0.1])
        self.shadow = Shadow("toy", candidate, record or self.events.append, FakeClock(), every_inputs=every_inputs)
        self.host = ShadowedHost(self.serving, self.shadow)

    def __enter__(self) -> "World":
        self.shadow.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shadow.close()

    def ask(self, rows: int = 1) -> Inference:
        return self.host.infer({"x": np.zeros((rows, 2), np.float32)})

    @property
    def details(self) -> list[dict]:
        assert {event.kind for event in self.events} <= {COMPARED}
        return [event.detail for event in self.events]


def test_the_caller_gets_the_answers_of_the_model_that_serves() -> None:
    with World(ScriptedHost([0.2, 0.8])) as world:
        assert world.ask().outputs["y"].tolist() == [pytest.approx([0.9, 0.1])]
        assert world.host.active() is world.serving.active()


def test_the_candidate_sees_the_same_inputs_and_is_compared() -> None:
    candidate = ScriptedHost([0.2, 0.8], sha256="c" * 64)
    with World(candidate) as world:
        for _ in range(3):
            world.ask(rows=2)
    assert [inputs["x"].shape for inputs in candidate.asked] == [(2, 2)] * 3
    (detail,) = world.details
    assert detail == {
        "model": "toy",
        "bundle": "a" * 64,
        "candidate": "c" * 64,
        "inputs": 6,
        "agreed": 0,
        "mean_difference": pytest.approx(0.1),
        "max_difference": pytest.approx(0.1),
        "latency_us": 20,
        "candidate_latency_us": 20,
        "said.yes": 6,
    }


def test_a_comparison_is_told_after_so_many_inputs() -> None:
    with World(ScriptedHost([0.8, 0.2]), every_inputs=4) as world:
        for _ in range(3):
            world.ask(rows=3)
    assert [detail["inputs"] for detail in world.details] == [6, 3]
    assert [detail["agreed"] for detail in world.details] == [6, 3]


def test_a_new_bundle_begins_a_new_comparison() -> None:
    with World(ScriptedHost([0.8, 0.2])) as world:
        world.ask()
        world.serving.model = replace(world.serving.model, sha256="b" * 64)
        world.ask(rows=2)
    assert [(detail["bundle"][0], detail["inputs"]) for detail in world.details] == [("a", 1), ("b", 2)]


def test_a_slow_candidate_delays_nobody_and_what_it_missed_is_counted() -> None:
    candidate = ScriptedHost([0.8, 0.2])
    candidate.open.clear()
    with World(candidate) as world:
        world.ask()
        assert candidate.entered.wait(DEADLINE_S)
        for _ in range(50):
            world.ask()
        candidate.open.set()
    (detail,) = world.details
    assert detail["inputs"] + detail["missed.not-in-time"] == 51
    assert detail["inputs"] < 12


def without_a_model() -> ScriptedHost:
    candidate = ScriptedHost([1, 0])
    candidate.model = None
    return candidate


@pytest.mark.parametrize(
    ("candidate", "reason"),
    [
        pytest.param(without_a_model(), "no-model", id="not-ready"),
        pytest.param(ScriptedHost([1, 0], manifest=manifest_of(OTHER_INPUT, OUTPUT)), "unfit", id="other-inputs"),
        pytest.param(ScriptedHost([1, 0], manifest=manifest_of(VECTOR, OUTPUT, states=[STEP])), "unfit", id="it-remembers"),
        pytest.param(ScriptedHost([1, 0], error=Retry("x", code="worker-crashed")), "worker-crashed", id="crash"),
        pytest.param(ScriptedHost([1, 0], error=Reject("x", code="non-finite")), "non-finite", id="not-finite"),
    ],
)
def test_what_the_candidate_does_not_answer_is_counted_by_reason(candidate: ScriptedHost, reason: str) -> None:
    with World(candidate) as world:
        world.ask(rows=2)
    assert [(detail["inputs"], detail[f"missed.{reason}"]) for detail in world.details] == [(0, 2)]


def test_rows_are_those_of_the_input_whatever_a_caller_gives_beside_it() -> None:
    with World(without_a_model()) as world:
        for beside in (np.array(16_000), np.zeros((5, 1, 128), np.float32)):
            world.host.infer({"sr": beside, "x": np.zeros((2, 2), np.float32)})
    assert [detail["missed.no-model"] for detail in world.details] == [4]


def test_a_mistake_costs_one_comparison(caplog: pytest.LogCaptureFixture) -> None:
    candidate = ScriptedHost([0.8, 0.2], error=ZeroDivisionError())
    with World(candidate) as world:
        world.ask()
        assert candidate.entered.wait(DEADLINE_S)
        candidate.error = None
        world.ask()
    assert [detail["inputs"] for detail in world.details] == [1]
    assert "ZeroDivisionError" in caplog.text


def test_what_the_disk_does_not_take_comes_with_the_next() -> None:
    refusals = [Retry("the disk is full", code="disk")]
    taken: list[Event] = []

    def record(event: Event) -> None:
        if refusals:
            raise refusals.pop()
        taken.append(event)

    with World(ScriptedHost([0.8, 0.2]), every_inputs=1, record=record) as world:
        world.ask()
        world.ask()
    assert [event.detail["inputs"] for event in taken] == [2]


def test_nothing_seen_is_nothing_told() -> None:
    with World(ScriptedHost([0.8, 0.2])) as world:
        pass
    assert world.events == []


def told(labels: list[str | None], values: list[float]) -> Answers:
    rows = len(labels)
    return Answers(labels, values, [0.0] * rows, [False] * rows, [None] * rows, np.zeros((rows, 0), np.float32))


class TestComparison:
    def test_of_labels_and_values(self) -> None:
        found = compare(told(["a", "b", None], [1.0, 2.0, 3.0]), 5, told(["a", "c", None], [1.5, 2.0, 2.0]), 9)
        assert (found.inputs, found.agreed, found.difference, found.largest, found.said) == (3, 2, 1.5, 1.0, {"a": 1, "c": 1})

    def test_sums(self) -> None:
        one = compare(told(["a"], [1.0]), 5, told(["a"], [3.0]), 9)
        two = one.plus(one).plus(Comparison(missed={"unfit": 3}))
        assert (two.inputs, two.agreed, two.largest, two.requests, two.said, two.missed, two.seen) == (
            2,
            2,
            2.0,
            2,
            {"a": 2},
            {"unfit": 3},
            5,
        )

    def test_only_the_commonest_labels_are_told(self) -> None:
        detail = Comparison(inputs=60, said={f"l{n}": n for n in range(60)}).detail()
        labels = [name for name in detail if name.startswith("said.")]
        assert (len(labels), labels[0]) == (20, "said.l59")
