"""What every runtime must answer: the real models of others, in the process and in a sandboxed worker, held to what reference code answered."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

from edge_agent.clock import SystemClock
from edge_agent.inference.child import Child, Deadlines, Wanted
from edge_agent.inference.plan import Bound, Plan
from edge_agent.inference.runtimes.port import open_runtime
from edge_agent.ports import Tensors
from firmware_profiles.catalog import Backend
from tests.fakes import corpus
from tests.fakes.corpus import MODELS, VOICES, Model

BACKENDS = [
    Backend(name="cpu", runtime="onnxruntime", provider="CPUExecutionProvider"),
    Backend(name="cpu", runtime="litert", provider="interpreter"),
    Backend(name="compiled", runtime="litert", provider="compiled"),
]
CASES = [pytest.param(b, m, id=f"{m.name}-on-{b.id}") for b in BACKENDS for m in MODELS if m.runtime == b.runtime]
VOICE_CASES = [pytest.param(m, id=m.name) for m in VOICES]
VOICE_STEPS = 20

Infer = Callable[[Tensors], Tensors]
pytestmark = pytest.mark.skipif(corpus.missing() is not None, reason=str(corpus.missing()))


def plan_of(backend: Backend, model: Model) -> Plan:
    """The caller's `x` and the graph's own output names."""
    outputs = [Bound(f"y-{name}", name, "float32") for name in model.told]
    return Plan([Bound("x", model.fed, "float32")], outputs, backend.provider, backend.options, "fp32", 1, model.batch_rows)


def voice_plan(model: Model) -> Plan:
    whole = {"rows": False}
    inputs = [
        Bound("sound", "input", "float32"),
        Bound("memory", "state", "float32", **whole),
        Bound("rate", "sr", "int64", **whole),
    ]
    outputs = [Bound("voice", "output", "float32"), Bound("memory", "stateN", "float32", **whole)]
    return Plan(inputs, outputs, BACKENDS[0].provider, {}, "fp32", 1)


@pytest.fixture
def here() -> Callable[[Backend, Model, Plan], Infer]:
    def opened(backend: Backend, model: Model, plan: Plan) -> Infer:
        runtime = open_runtime(backend)
        runtime.load(model.read(), plan)
        return runtime.infer

    return opened


@pytest.fixture
def walled() -> Iterator[Callable[[Backend, Model, Plan], Infer]]:
    """In a worker of its own, with every wall that this kernel grants."""
    children: list[Child] = []
    with ThreadPoolExecutor(1) as starter:

        def opened(backend: Backend, model: Model, plan: Plan) -> Infer:
            children.append(Child(Wanted(backend, plan, memory_mb=256), SystemClock(), starter, Deadlines()))
            children[-1].load(model.read)
            return lambda inputs: children[-1].infer(inputs, 10.0, 2**22)

        yield opened
        for child in children:
            child.close()


def held_to_known(model: Model, answers: Tensors) -> None:
    for name, wanted in corpus.known()[model.name].items():
        np.testing.assert_allclose(corpus.picked(answers[f"y-{name}"]), wanted, atol=model.tolerance, rtol=1e-4, err_msg=name)


@pytest.mark.parametrize(("backend", "model"), CASES)
def test_a_real_model_answers_as_the_reference_did(here: Callable, backend: Backend, model: Model) -> None:
    held_to_known(model, here(backend, model, plan_of(backend, model))({"x": model.rows()}))


@pytest.mark.e2e
@pytest.mark.parametrize(("backend", "model"), CASES)
def test_it_answers_the_same_behind_the_walls(here: Callable, walled: Callable, backend: Backend, model: Model) -> None:
    plan, inputs = plan_of(backend, model), {"x": model.rows()}
    behind, before = walled(backend, model, plan)(inputs), here(backend, model, plan)(inputs)
    for name, values in before.items():
        np.testing.assert_array_equal(behind[name], values)
    held_to_known(model, behind)


@pytest.mark.parametrize(("backend", "model"), CASES)
def test_rows_do_not_touch_each_other(here: Callable, backend: Backend, model: Model) -> None:
    """At once, one by one, in steps of two, and at once again: whatever the graph was shaped for before."""
    rows = model.rows()
    any_number = here(backend, model, plan_of(backend, model))
    whole = any_number({"x": rows})
    apart = [any_number({"x": rows[at : at + 1]}) for at in range(len(rows))]
    again = any_number({"x": rows})
    for name, values in whole.items():
        np.testing.assert_allclose(np.concatenate([one[name] for one in apart]), values, atol=1e-4)
        np.testing.assert_array_equal(again[name], values)
    if not model.batch_rows:
        stepped = here(backend, model, replace_rows(plan_of(backend, model), 2))({"x": rows})
        for name, values in whole.items():
            np.testing.assert_allclose(stepped[name], values, atol=1e-4)


def replace_rows(plan: Plan, rows: int) -> Plan:
    return Plan(**{name: getattr(plan, name) for name in plan.__struct_fields__} | {"batch_rows": rows})


@pytest.mark.parametrize("model", VOICE_CASES)
def test_a_model_with_a_memory_hears_a_voice(here: Callable, model: Model) -> None:
    """Silero VAD over 0.6 s of its own recording, the state of each step fed to the next; then from the start again."""
    infer = here(BACKENDS[0], replace(model), voice_plan(model))
    for _ in range(2):
        memory, heard = np.zeros((2, 1, 128), np.float32), []
        for step in corpus.voice_steps(VOICE_STEPS):
            answer = infer({"sound": step, "memory": memory, "rate": np.array(16000, np.int64)})
            memory = answer["memory"]
            heard.append(answer["voice"])
        known = corpus.known()[model.name]
        np.testing.assert_allclose(corpus.picked(np.concatenate(heard)), known["output"], atol=model.tolerance)
        np.testing.assert_allclose(corpus.picked(memory), known["stateN"], atol=10 * model.tolerance)
