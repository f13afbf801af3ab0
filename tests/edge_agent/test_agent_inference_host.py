"""Real workers, real ONNX models: what proves, what is refused and why, and what a lost worker costs."""

import os
import select
import signal
import subprocess
import sys
import threading
from pathlib import Path

import msgspec
import numpy as np
import pytest

from edge_agent.clock import SystemClock
from edge_agent.errors import Reject, Retry
from edge_agent.inference.child import Deadlines
from edge_agent.inference.host import InferenceHost
from firmware_profiles import catalog
from fleet_contract.bundle import Bundle
from fleet_contract.inputs import VectorInput
from fleet_contract.manifest import Limits
from fleet_contract.sketch import Feature, Grid
from tests.fakes import agent_run_models as models

PROFILE = catalog.load("generic-x86-64")


@pytest.fixture
def host():
    host = InferenceHost(PROFILE, SystemClock(), Deadlines(infer_s=1.0))
    yield host
    host.close()


def test_right_answers_prove_a_bundle(host: InferenceHost) -> None:
    proof = host.prove(Bundle(models.bundle()))
    assert (proof.chosen.variant, proof.chosen.backend) == ("fp32", "onnxruntime:cpu")
    assert proof.chosen.max_difference <= 1e-3
    assert 0 < proof.chosen.latency_p50_us <= proof.chosen.latency_p99_us
    assert host.active() is None


def test_known_images_may_be_whole_pixel_values(host: InferenceHost) -> None:
    archive = models.bundle(
        {"fp32": models.flat_image()},
        spec=models.IMAGE,
        inputs=np.full((2, 1, 8, 8), 100, np.uint8),
        answers=np.array([[-100, 100]] * 2, np.float32),
    )
    assert host.prove(Bundle(archive)).chosen.variant == "fp32"


FOREIGN = Grid(features=[Feature(name="smell", role="input", low=0, high=1)], bins=4)
COLUMNS = [f"c{number}" for number in range(200)]
WIDE = VectorInput(tensor="input", columns=COLUMNS, low=[0.0] * 200, high=[1.0] * 200)
WIDE_GRID = Grid(features=[Feature(name=name, role="input", low=0, high=1) for name in COLUMNS], bins=64)
HOSTILE = [
    pytest.param({"models": {"fp32": models.linear(2 * models.WEIGHT)}}, "wrong-answer", id="another model's answers"),
    pytest.param({"answers": models.KNOWN_LOGITS + 0.1}, "wrong-answer", id="off by more than the tolerance"),
    pytest.param({"models": {"fp32": models.not_a_number()}}, "non-finite", id="answers that are no numbers"),
    pytest.param({"models": {"fp32": models.memory_bomb()}}, "memory", id="memory bomb"),
    pytest.param({"limits": Limits(memory_mb=512, latency_ms=1e-6)}, "too-slow", id="slower than the manifest allows"),
    pytest.param({"models": {"fp32": models.foreign_operator()}}, "bad-model", id="operator of an unknown domain"),
    pytest.param({"models": {"fp32": models.external_data("weights.bin")}}, "bad-model", id="weights in a file beside it"),
    pytest.param({"models": {"fp32": models.external_data("/etc/hostname")}}, "bad-model", id="weights in a file of the system"),
    pytest.param({"models": {"fp32": models.linear(name="other")}}, "bundle", id="input of another name"),
    pytest.param({"models": {"fp32": b"\x00 no model"}}, "bad-model", id="bytes that are no model"),
    pytest.param({"models": {"fp32": b""}}, "bad-model", id="empty model"),
    pytest.param({"inputs": np.zeros((3, 5), np.float32)}, "bundle", id="known inputs of another shape"),
    pytest.param({"answers": np.zeros((2, 2), np.float32)}, "bundle", id="fewer answers than inputs"),
    pytest.param({"answers": np.full((3, 2), np.nan, np.float32)}, "bundle", id="known answers that are no numbers"),
    pytest.param({"grid": FOREIGN}, "bundle", id="reference on features that the agent does not make"),
    pytest.param({"spec": WIDE, "grid": WIDE_GRID}, "bundle", id="windows that fit no record"),
    pytest.param({"profiles": ["other-board"]}, "no-variant", id="another board's bundle"),
]


@pytest.fixture(scope="module")
def serving():
    """One active model for the whole table."""
    host = InferenceHost(PROFILE, SystemClock(), Deadlines(infer_s=1.0))
    host.activate(Bundle(models.bundle()))
    yield host
    host.close()


@pytest.mark.parametrize(("wrong", "code"), HOSTILE)
def test_a_wrong_bundle_is_refused_with_its_reason_while_the_right_one_serves_on(serving: InferenceHost, wrong: dict, code: str) -> None:
    pid = serving.worker_pids[0]
    with pytest.raises(Reject) as refused:
        serving.prove(Bundle(models.bundle(**wrong)))
    assert refused.value.code == code
    np.testing.assert_allclose(serving.infer({"input": models.KNOWN_INPUTS}).outputs["logits"], models.KNOWN_LOGITS, atol=1e-5)
    assert serving.worker_pids[0] == pid


def test_an_endless_model_meets_its_deadline() -> None:
    host = InferenceHost(PROFILE, SystemClock(), Deadlines(infer_s=0.2))
    with pytest.raises(Reject) as refused:
        host.prove(Bundle(models.bundle({"fp32": models.endless()}, limits=Limits(memory_mb=512, latency_ms=1))))
    host.close()
    assert refused.value.code == "child-timeout"


def test_a_model_of_known_harm_is_refused_before_a_worker_starts(host: InferenceHost) -> None:
    with pytest.raises(Reject) as refused:
        host.prove(Bundle(models.bundle({"fp32": models.external_data("/proc/self/mem")})))
    assert refused.value.code == "bad-model"
    assert host.counts().started == 0


def test_a_right_variant_is_chosen_though_another_is_wrong(host: InferenceHost) -> None:
    archive = models.bundle({"int8": models.linear(2 * models.WEIGHT), "fp32": models.linear()})
    assert host.prove(Bundle(archive)).chosen.variant == "fp32"


def test_before_the_first_activation_there_is_no_model(host: InferenceHost) -> None:
    with pytest.raises(Retry) as refused:
        host.infer({"input": models.KNOWN_INPUTS})
    assert refused.value.code == "no-model"


def test_activation_proves_what_this_process_has_not_proven(host: InferenceHost) -> None:
    with pytest.raises(Reject) as refused:
        host.activate(Bundle(models.bundle({"fp32": models.not_a_number()})))
    assert refused.value.code == "non-finite"
    assert host.active() is None


def test_deactivation_leaves_no_model_and_no_worker(host: InferenceHost) -> None:
    host.activate(Bundle(models.bundle()))
    pid = host.worker_pids[0]
    host.deactivate()
    assert host.active() is None
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_activating_the_active_bundle_again_keeps_its_worker(host: InferenceHost) -> None:
    bundle = Bundle(models.bundle())
    host.activate(bundle)
    pid = host.worker_pids[0]
    host.activate(bundle)
    assert host.worker_pids[0] == pid


def test_a_killed_worker_costs_one_answer(host: InferenceHost) -> None:
    host.activate(Bundle(models.bundle()))
    os.kill(host.worker_pids[0], signal.SIGKILL)
    with pytest.raises(Retry) as lost:
        host.infer({"input": models.KNOWN_INPUTS})
    assert lost.value.code == "worker-crashed"
    np.testing.assert_allclose(host.infer({"input": models.KNOWN_INPUTS}).outputs["logits"], models.KNOWN_LOGITS, atol=1e-5)
    assert host.counts().crashed == 1


def test_a_hanging_worker_is_killed_and_replaced(host: InferenceHost) -> None:
    slow = models.bundle({"fp32": models.endless_when_first_is_ten()}, limits=Limits(memory_mb=512, latency_ms=200))
    host.activate(Bundle(slow))
    with pytest.raises(Retry) as lost:
        host.infer({"input": np.array([[10, 0]], np.float32)})
    assert lost.value.code == "worker-timeout"
    np.testing.assert_allclose(host.infer({"input": models.KNOWN_INPUTS}).outputs["logits"], models.KNOWN_LOGITS, atol=1e-5)


def test_a_batch_of_another_models_shape_waits_for_its_model(host: InferenceHost) -> None:
    host.activate(Bundle(models.bundle()))
    with pytest.raises(Retry) as refused:
        host.infer({"input": np.zeros((1, 7), np.float32)})
    assert refused.value.code == "model-swapped"


def test_a_swap_drops_no_request(host: InferenceHost) -> None:
    first, second = Bundle(models.bundle()), Bundle(models.bundle(version="2.0.0"))
    host.activate(first)
    answered: list[str] = []
    swapped = threading.Event()
    serving = threading.Event()

    def ask() -> None:
        rest = 20
        while rest:
            answered.append(host.infer({"input": models.KNOWN_INPUTS}).sha256)
            serving.set()
            rest -= swapped.is_set()

    asking = threading.Thread(target=ask)
    asking.start()
    serving.wait(30)
    host.activate(second)
    swapped.set()
    asking.join(30)
    assert not asking.is_alive()
    assert len({*answered}) == 2
    assert answered[-1] == host.active().sha256
    assert answered == sorted(answered, key=[answered[0], answered[-1]].index)


def test_an_answer_that_is_not_finite_is_rejected_while_serving(host: InferenceHost) -> None:
    archive = models.bundle(
        {"fp32": models.not_a_number()}, inputs=np.array([[2, 2]], np.float32), answers=np.sqrt(np.array([[3, 2]], np.float32))
    )
    host.activate(Bundle(archive))
    with pytest.raises(Reject) as refused:
        host.infer({"input": np.array([[-3, 4]], np.float32)})
    assert refused.value.code == "non-finite"


def test_the_supervisors_environment_stays_with_the_supervisor(host: InferenceHost, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLEET_SECRET", "hush")
    host.activate(Bundle(models.bundle()))
    environment = Path(f"/proc/{host.worker_pids[0]}/environ")
    try:
        assert b"hush" not in environment.read_bytes()
    except PermissionError:
        pass  # the worker is not dumpable: the kernel itself keeps it closed


def test_the_worker_may_open_no_file_and_dump_no_core(host: InferenceHost) -> None:
    host.activate(Bundle(models.bundle()))
    lines = Path(f"/proc/{host.worker_pids[0]}/limits").read_text().splitlines()
    soft = {line[:25].strip(): line[26:].split()[0] for line in lines}
    assert [soft[name] for name in ("Max open files", "Max core file size", "Max file size")] == ["0", "0", "0"]
    assert int(soft["Max address space"]) < 2**30


def test_known_answers_that_are_not_in_the_bundle_refuse_it(host: InferenceHost) -> None:
    broken = models.bundle(known=msgspec.msgpack.encode({"inputs": {"input": models.tensor_of(models.KNOWN_INPUTS)}, "outputs": {}}))
    with pytest.raises(Reject, match="no known answers"):
        host.prove(Bundle(broken))


SUPERVISOR = """
import sys
from pathlib import Path
import numpy
from edge_agent.clock import SystemClock
from edge_agent.inference.child import Deadlines
from edge_agent.inference.host import InferenceHost
from firmware_profiles import catalog
from fleet_contract.bundle import Bundle
host = InferenceHost(catalog.load("generic-x86-64"), SystemClock(), Deadlines(infer_s=300.0))
host.activate(Bundle(Path(sys.argv[1])))
sys.stdout.write(f"{host.worker_pids[0]}\\n")
sys.stdout.flush()
host.infer({"input": numpy.array([[10, 0]], numpy.float32)})
"""


def test_a_worker_dies_with_its_supervisor(tmp_path: Path) -> None:
    """Though an endless run keeps it from hearing the closed channel. A pidfd is readable once its process has ended."""
    path = tmp_path / "b.bundle"
    path.write_bytes(models.bundle({"fp32": models.endless_when_first_is_ten()}))
    command = [sys.executable, "-c", SUPERVISOR, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as supervisor:
        worker = os.pidfd_open(int(supervisor.stdout.readline()))
        os.kill(supervisor.pid, signal.SIGKILL)
    ended, _, _ = select.select([worker], [], [], 30)
    os.close(worker)
    assert ended


def test_the_worker_imports_little() -> None:
    """A quick start, and little for a hostile model to find: the engine, numpy and msgspec."""
    script = (
        "import sys; from edge_agent.inference import worker, conversation; from edge_agent.inference.runtimes import onnx;"
        "sys.stdout.write(' '.join({name.partition('.')[0] for name in sys.modules}))"
    )
    answer = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    ours_and_theirs = {"edge_agent", "fleet_contract", "firmware_profiles", "cv2", "cryptography", "paho", "tuf", "sqlite3", "ssl"}
    assert {*answer.stdout.split()} & ours_and_theirs == {"edge_agent", "fleet_contract", "firmware_profiles"}
