"""Real workers and many callers: nobody is dropped by a swap, a lost worker costs one request, deadlines hold, and memory comes back."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import numpy as np
import pytest

from edge_agent.clock import SystemClock
from edge_agent.errors import AgentError, Reject, Retry
from edge_agent.inference.bystander import Bystander
from edge_agent.inference.child import Deadlines
from edge_agent.inference.host import InferenceHost
from firmware_profiles import catalog
from firmware_profiles.catalog import Profile
from fleet_contract.bundle import Bundle
from fleet_contract.manifest import Limits
from tests.fakes import agent_run_models as models
from tests.fakes import bad_models

PROFILE = catalog.load("generic-x86-64")
THREADS = 6
FIRST, SECOND = (models.bundle(version=f"{number}.0.0") for number in (1, 2))
POISONED = np.array([[bad_models.POISON, 1]], np.float32)
TENS = np.array([[10, 0]], np.float32)
pytestmark = pytest.mark.e2e


def _profile(**worker: object) -> Profile:
    return msgspec.structs.replace(PROFILE, cores=4_096, worker=msgspec.structs.replace(PROFILE.worker, **worker))


@pytest.fixture
def make_host() -> Iterator[Callable[..., InferenceHost]]:
    hosts: list[InferenceHost] = []

    def make(deadlines: Deadlines = Deadlines(), **worker: object) -> InferenceHost:
        hosts.append(InferenceHost(_profile(**worker), SystemClock(), deadlines))
        return hosts[-1]

    yield make
    for host in hosts:
        host.close()


class Callers:
    """Threads that ask, each for a row of its own, until they are told to stop; every answer is looked at."""

    def __init__(self, host: InferenceHost, count: int = THREADS) -> None:
        self.answered: list[str] = []
        self.refused: list[str] = []
        self.wrong = 0
        self._host = host
        self._stop = threading.Event()
        self._changed = threading.Condition()
        self._threads = [threading.Thread(target=self._ask, args=(number,)) for number in range(count)]
        for thread in self._threads:
            thread.start()

    def wait_for(self, more: int) -> None:
        with self._changed:
            enough = len(self.answered) + more
            if not self._changed.wait_for(lambda: len(self.answered) >= enough, 60):
                raise TimeoutError(f"{len(self.answered)} answers, not {enough}; refused: {self.refused}")

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(60)

    def _ask(self, number: int) -> None:
        row = np.array([[number, 1]], np.float32)
        while not self._stop.is_set():
            try:
                found = self._host.infer({"input": row})
            except (Retry, Reject) as error:
                self.refused.append(error.code)
                continue
            self.wrong += not np.allclose(found.outputs["logits"], row @ models.WEIGHT, atol=1e-5)
            with self._changed:
                self.answered.append(found.sha256)
                self._changed.notify_all()


def test_a_swap_under_many_callers_drops_nothing(make_host) -> None:
    host = make_host()
    first, second = Bundle(FIRST), Bundle(SECOND)
    host.activate(first)
    callers = Callers(host)
    for bundle in (second, first, second):
        callers.wait_for(50)
        host.activate(bundle)
    callers.wait_for(50)
    callers.stop()
    assert (callers.refused, callers.wrong) == ([], 0)
    assert {*callers.answered} == {first.sha256, second.sha256}
    assert callers.answered[-1] == second.sha256


def test_as_many_workers_as_the_profile_says_share_the_requests_and_losing_one_costs_one(make_host) -> None:
    host = make_host(count=2)
    host.activate(Bundle(FIRST))
    lost, _ = pids = host.worker_pids
    assert len({*pids}) == 2
    callers = Callers(host)
    callers.wait_for(100)
    os.kill(lost, signal.SIGKILL)
    callers.wait_for(100)
    callers.stop()
    assert callers.refused == ["worker-crashed"]
    assert callers.wrong == 0
    assert host.counts().crashed == 1


def test_a_worker_stays_in_its_place(make_host) -> None:
    core = max(os.sched_getaffinity(0))
    host = make_host(affinity=[core, 4_000], nice=5)
    host.activate(Bundle(FIRST))
    (pid,) = host.worker_pids
    assert os.sched_getaffinity(pid) == {core}
    assert os.getpriority(os.PRIO_PROCESS, pid) == os.getpriority(os.PRIO_PROCESS, 0) + 5


def test_cores_that_the_board_lacks_are_no_place(make_host) -> None:
    host = make_host(affinity=[4_000])
    host.activate(Bundle(FIRST))
    assert os.sched_getaffinity(host.worker_pids[0]) == os.sched_getaffinity(0)


def test_a_late_answer_is_told_as_such_and_never_given_to_the_next_caller(make_host) -> None:
    host = make_host()
    host.activate(Bundle(models.bundle({"fp32": bad_models.model("slow", "on-poison")}, limits=bad_models.LIMITS)))
    pids = host.worker_pids
    with pytest.raises(Retry) as late:
        host.infer({"input": POISONED}, timeout_s=0.001)
    assert late.value.code == "deadline"
    np.testing.assert_allclose(host.infer({"input": models.KNOWN_INPUTS}).outputs["logits"], models.KNOWN_LOGITS, atol=1e-5)
    assert host.worker_pids == pids


def test_a_worker_that_hangs_after_its_caller_left_costs_the_next_one_nothing_but_time(make_host) -> None:
    host = make_host(Deadlines(infer_s=0.5))
    archive = models.bundle({"fp32": models.endless_when_first_is_ten()}, limits=Limits(memory_mb=512, latency_ms=100))
    host.activate(Bundle(archive))
    pids = host.worker_pids
    with pytest.raises(Retry) as late:
        host.infer({"input": TENS}, timeout_s=0.01)
    assert late.value.code == "deadline"
    np.testing.assert_allclose(host.infer({"input": models.KNOWN_INPUTS}).outputs["logits"], models.KNOWN_LOGITS, atol=1e-5)
    assert host.worker_pids != pids
    assert host.conduct(host.active().sha256).hangs == 1


@pytest.mark.parametrize("timeout_s", [0.0, -1.0])
def test_a_deadline_that_has_passed_is_not_tried(make_host, timeout_s: float) -> None:
    host = make_host()
    host.activate(Bundle(FIRST))
    with pytest.raises(Retry) as late:
        host.infer({"input": TENS}, timeout_s=timeout_s)
    assert late.value.code == "deadline"
    assert host.conduct(host.active().sha256).errors == 0


def test_a_batch_of_megabytes_comes_back_right_and_one_that_is_too_large_is_refused(make_host) -> None:
    host = make_host()
    host.activate(Bundle(models.bundle(limits=Limits(memory_mb=64))))
    pids = host.worker_pids
    rows = np.random.default_rng(5).normal(size=(200_000, 2)).astype(np.float32)
    np.testing.assert_allclose(host.infer({"input": rows}).outputs["logits"], rows @ models.WEIGHT, atol=1e-4)
    with pytest.raises(Reject, match="33554432 that are shared") as refused:
        host.infer({"input": np.zeros((4_000_000, 2), np.float32)})
    assert refused.value.code == "too-large"
    assert host.infer({"input": TENS}).outputs["logits"].tolist() == (TENS @ models.WEIGHT).tolist()
    assert host.worker_pids == pids


@pytest.mark.parametrize(
    ("batch", "code"),
    [
        pytest.param(np.zeros((100_000_000, 2), np.float32), "too-large", id="more than is shared"),
        pytest.param(np.zeros((1, 2), np.complex64), "bad-input", id="a type that no model takes"),
    ],
)
def test_a_bad_batch_is_not_the_bundles_fault(make_host, batch: np.ndarray, code: str) -> None:
    host = make_host()
    host.activate(Bundle(FIRST))
    with pytest.raises(Reject) as refused:
        host.infer({"input": batch})
    assert refused.value.code == code
    assert host.conduct(host.active().sha256).errors == 0


@pytest.mark.parametrize(
    ("effect", "code"),
    [pytest.param("nan", "non-finite"), pytest.param("memory", "memory"), pytest.param("crash", "worker-crashed")],
)
def test_what_a_bystander_provokes_is_not_held_against_the_bundle(make_host, effect: str, code: str) -> None:
    host = make_host()
    host.activate(Bundle(models.bundle({"fp32": bad_models.model(effect, "on-poison")}, limits=bad_models.LIMITS)))
    sha256 = host.active().sha256
    bystander = Bystander(host)
    assert bystander.active() is host.active()
    bystander.infer({"input": TENS})
    for asked, errors in ((bystander, 0), (host, 1)):
        with pytest.raises(AgentError) as refused:
            asked.infer({"input": POISONED})
        assert (refused.value.code, host.conduct(sha256).errors) == (code, errors)
    assert host.conduct(sha256).answered == 0


def test_what_a_worker_owes_a_bystander_is_not_held_against_the_bundle(make_host) -> None:
    host = make_host(Deadlines(infer_s=0.5))
    host.activate(Bundle(models.bundle({"fp32": models.endless_when_first_is_ten()}, limits=Limits(memory_mb=512, latency_ms=100))))
    with pytest.raises(Retry):
        Bystander(host).infer({"input": TENS}, timeout_s=0.01)
    host.infer({"input": models.KNOWN_INPUTS})
    assert host.conduct(host.active().sha256).errors == 0
    assert host.counts().timed_out == 1


SWAPS = 8
"""After the first two, which fill what is kept for both bundles."""


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="needs Linux's account of a process's memory")
def test_memory_and_descriptors_come_back_after_every_swap(make_host) -> None:
    host = make_host()
    bundles = [Bundle(FIRST), Bundle(SECOND)]
    looks = []
    for swap in range(SWAPS + 2):
        host.activate(bundles[swap % 2])
        host.infer({"input": np.zeros((50_000, 2), np.float32)})
        looks.append((_own_bytes(host), len([*Path("/proc/self/fd").iterdir()])))
    looks = looks[2:]
    assert max(held for held, _ in looks[-2:]) < 1.02 * max(held for held, _ in looks[:2])
    assert len({descriptors for _, descriptors in looks}) == 1
    assert len(host.worker_pids) == 1


def _own_bytes(host: InferenceHost) -> int:
    """Of supervisor and workers, shared pages once."""
    total = 0
    for pid in (os.getpid(), *host.worker_pids):
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        total += next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) * 1024
    return total
