"""Chosen by measurement: whatever a backend does on this board, the fastest right one wins and the others are told of."""

from pathlib import Path

import msgspec
import pytest

from edge_agent.clock import SystemClock
from edge_agent.errors import Reject, Retry, Unproven
from edge_agent.inference import selection
from edge_agent.inference.child import ChildLost
from edge_agent.inference.host import InferenceHost
from edge_agent.inference.proving import Candidate, candidates
from edge_agent.inference.selection import Selection, reselect, select
from edge_agent.ports import Choice, Measurement
from firmware_profiles import catalog
from firmware_profiles.catalog import Backend, Profile
from fleet_contract.bundle import Bundle
from tests.fakes import agent_run_models as models
from tests.fakes.agent_run_world import FakeClock

RIGHT = "right"
CPU = Backend(name="cpu", runtime="onnxruntime", provider="CPUExecutionProvider")


def npu(name: str, **more) -> Backend:
    return Backend(name=name, runtime="onnxruntime", provider="CPUExecutionProvider", kind="npu", **more)


def profile(*backends: Backend) -> Profile:
    return msgspec.structs.replace(catalog.load("generic-x86-64"), backends=[*backends])


def board(*backends: Backend) -> list[Candidate]:
    return candidates(Bundle(models.bundle()).manifest, profile(*backends))


class Trials:
    """What each backend does when it is tried: latencies in microseconds, or what it raises. A trial takes `each_s`."""

    def __init__(self, clock: FakeClock, each_s: float = 0.0, **shown: float | Exception) -> None:
        self._clock, self._each_s, self._shown = clock, each_s, shown
        self.tried: list[str] = []

    def __call__(self, candidate: Candidate) -> tuple[Measurement, tuple[str, ...]]:
        name = candidate.backend.name
        self.tried.append(name)
        self._clock.elapsed_s += self._each_s
        shown = self._shown[name]
        if isinstance(shown, Exception):
            raise shown
        return Measurement(candidate.variant.name, candidate.backend.id, RIGHT, "", shown, shown, 1), (f"wall of {name}",)


def nothing(_backend: Backend) -> str | None:
    return None


def verdicts(found: Selection | Unproven) -> dict[str, str]:
    return {one.backend.partition(":")[2]: one.verdict for one in found.measurements}


CRASH = ChildLost("child-crash", "the channel broke (exit status -11)")
HANG = ChildLost("child-timeout", "the worker did not answer within 60 s (exit status -9)")
WRONG = Reject("an answer is off by 3, at most 0.1 is allowed", code="wrong-answer")
NAN = Reject("2 of 6 answers are not finite", code="non-finite")
ABSENT = Reject("this onnxruntime has no QNNExecutionProvider", code="no-variant")


@pytest.mark.parametrize(
    ("shown", "chosen", "verdict"),
    [
        pytest.param(CRASH, "cpu", "child-crash", id="one that crashes"),
        pytest.param(HANG, "cpu", "child-timeout", id="one that hangs"),
        pytest.param(WRONG, "cpu", "wrong-answer", id="one that is wrong"),
        pytest.param(NAN, "cpu", "non-finite", id="one that answers with no numbers"),
        pytest.param(ABSENT, "cpu", "unavailable", id="one that the engine lacks"),
        pytest.param(Reject("too much", code="memory"), "cpu", "memory", id="one that takes too much memory"),
        pytest.param(200.0, "cpu", RIGHT, id="one that is right and slower"),
        pytest.param(50.0, "npu", RIGHT, id="one that is right and faster"),
    ],
)
def test_whatever_an_accelerator_does_a_right_one_wins(shown: float | Exception, chosen: str, verdict: str) -> None:
    clock = FakeClock()
    found = select(board(npu("npu"), CPU), Trials(clock, npu=shown, cpu=100.0), nothing, clock)
    assert found.chosen.candidate.backend.name == chosen
    assert found.chosen.walls == (f"wall of {chosen}",)
    assert verdicts(found) == {"npu": verdict, "cpu": RIGHT}
    told = found.measurements[0].message
    assert told == (str(shown) if isinstance(shown, Exception) else "")


def test_what_the_board_lacks_is_not_tried() -> None:
    clock = FakeClock()
    trials = Trials(clock, cpu=100.0)
    found = select(board(npu("npu"), CPU), trials, lambda backend: "there is no /dev/npu0" if backend.kind == "npu" else None, clock)
    assert trials.tried == ["cpu"]
    assert (found.measurements[0].verdict, found.measurements[0].message) == ("unavailable", "there is no /dev/npu0")


@pytest.mark.parametrize(
    ("order", "shown", "tried"),
    [
        pytest.param(["a", "b", "c", "cpu"], {"a": HANG, "cpu": 1.0}, ["a", "cpu"], id="late: the CPU still, no accelerator"),
        pytest.param(["cpu", "a", "b", "c"], {"cpu": 1.0}, ["cpu"], id="late and one is right: nothing more"),
    ],
)
def test_backends_that_hang_cannot_hold_up_a_board_for_long(order: list[str], shown: dict, tried: list[str]) -> None:
    clock = FakeClock()
    trials = Trials(clock, each_s=100.0, **shown)
    found = select(board(*(CPU if name == "cpu" else npu(name) for name in order)), trials, nothing, clock, budget_s=60.0)
    assert trials.tried == tried
    assert {name: verdict for name, verdict in verdicts(found).items() if name not in tried} == {
        name: "not-tried" for name in order if name not in tried
    }


def test_not_even_cpu_backends_are_tried_for_ever() -> None:
    clock = FakeClock()
    cpus = [msgspec.structs.replace(CPU, name=name) for name in ("one", "two", "three")]
    trials = Trials(clock, each_s=100.0, one=HANG, two=HANG)
    with pytest.raises(Unproven) as refused:
        select(board(*cpus), trials, nothing, clock, budget_s=60.0)
    assert (trials.tried, refused.value.code) == (["one", "two"], "child-timeout")
    assert verdicts(refused.value) == {"one": "child-timeout", "two": "child-timeout", "three": "not-tried"}


@pytest.mark.parametrize(
    ("shown", "code", "said"),
    [
        pytest.param({"npu": CRASH, "cpu": WRONG}, "wrong-answer", "onnxruntime:cpu", id="the CPU's before an accelerator's"),
        pytest.param({"npu": CRASH, "cpu": ABSENT}, "child-crash", "onnxruntime:npu", id="one that was tried before one that was not"),
        pytest.param({"npu": ABSENT, "cpu": ABSENT}, "no-variant", "no QNNExecutionProvider", id="none could be tried"),
    ],
)
def test_the_most_telling_refusal_is_that_of_the_bundle(shown: dict, code: str, said: str) -> None:
    clock = FakeClock()
    with pytest.raises(Unproven, match=said) as refused:
        select(board(npu("npu"), CPU), Trials(clock, **shown), nothing, clock)
    assert refused.value.code == code
    assert [one.is_right for one in refused.value.measurements] == [False, False]


def test_a_disk_that_fails_is_nobodys_verdict() -> None:
    clock = FakeClock()
    with pytest.raises(Retry):
        select(board(npu("npu"), CPU), Trials(clock, npu=Retry("it is gone", code="disk")), nothing, clock)


def test_a_workers_words_are_made_printable() -> None:
    clock = FakeClock()
    trials = Trials(clock, npu=Reject("bad\0model\x1b[2J" + "x" * 1_000, code="bundle"), cpu=1.0)
    message = select(board(npu("npu"), CPU), trials, nothing, clock).measurements[0].message
    assert message.startswith("bad model [2J") and len(message) <= 300


@pytest.mark.parametrize(
    ("before", "shown", "tried", "chosen"),
    [
        pytest.param(Choice("fp32", "onnxruntime:cpu"), {"npu": HANG, "cpu": 1.0}, ["cpu"], "cpu", id="right still: nothing else is tried"),
        pytest.param(Choice("fp32", "onnxruntime:npu"), {"npu": CRASH, "cpu": 1.0}, ["npu", "npu", "cpu"], "cpu", id="not any more"),
        pytest.param(Choice("int4", "onnxruntime:gone"), {"npu": 2.0, "cpu": 1.0}, ["npu", "cpu"], "cpu", id="not there any more"),
        pytest.param(None, {"npu": 1.0, "cpu": 2.0}, ["npu", "cpu"], "npu", id="nothing was chosen before"),
    ],
)
def test_a_start_asks_what_was_chosen_before_first(before: Choice | None, shown: dict, tried: list[str], chosen: str) -> None:
    clock = FakeClock()
    trials = Trials(clock, **shown)
    found = reselect(board(npu("npu"), CPU), before, trials, nothing, clock)
    assert (trials.tried, found.chosen.candidate.backend.name) == (tried, chosen)


def test_what_this_python_or_board_lacks_is_found_without_loading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert selection.lacking(CPU, tmp_path) is None
    assert selection.lacking(npu("npu", files=["/dev/npu0"], library="libnpu.so"), tmp_path) == "there is no /dev/npu0, libnpu.so"
    monkeypatch.setattr(selection, "find_spec", lambda _name: None)
    assert selection.lacking(CPU, tmp_path) == "onnxruntime is not installed"


def test_real_workers_leave_out_what_the_engine_and_the_board_lack() -> None:
    absent = npu("absent", files=["/dev/no-such-npu"])
    foreign = Backend(name="tensorrt", runtime="onnxruntime", provider="TensorrtExecutionProvider", kind="gpu")
    host = InferenceHost(profile(absent, foreign, CPU), SystemClock())
    try:
        proof = host.prove(Bundle(models.bundle()))
    finally:
        host.close()
    assert [one.verdict for one in proof.measurements] == ["unavailable", "unavailable", RIGHT]
    assert proof.chosen is proof.measurements[2] and proof.chosen.memory_bytes > 0 and proof.chosen.load_ms > 0
    assert host.counts().started == 2
