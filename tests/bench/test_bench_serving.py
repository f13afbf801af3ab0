"""The serving benchmark asks servers that really run, and judges by what it measured."""

import pytest

from bench.serving import _aims, environments, load, questions, servers
from bench.serving.load import Job, Load
from bench.serving.servers import Running, Way
from fleet_contract.inputs import VectorInput
from fleet_contract.outputs import Raw
from fleet_contract.tensors import ANY, TensorSpec
from tests.fakes.agent_serving import VECTOR, EchoCatalogue, EchoPredictor, manifest_of, rest_server

SPEC = VectorInput(tensor="input", columns=[f"c{at}" for at in range(questions.COLUMNS)], low=[-1.0] * 16, high=[1.0] * 16)


@pytest.mark.parametrize("binary", [False, True])
def test_callers_are_timed(binary: bool) -> None:
    echo = EchoPredictor(questions.MODEL, manifest_of(SPEC, Raw([TensorSpec("input", "float32", [ANY, questions.COLUMNS])])))
    with rest_server(EchoCatalogue(echo)) as server:
        payload = questions.rest(f"/v2/models/{questions.MODEL}/infer", binary=binary)
        assert load.is_answered(f"http://{server.address}", payload)
        found = load.measure(Job(f"http://{server.address}", payload, clients=2, time_s=0.2))
    assert found.p50_us > 0
    assert found.per_s > 0


def test_a_server_that_refuses_is_no_contender() -> None:
    refusing = EchoPredictor(questions.MODEL, manifest_of(VECTOR, Raw([TensorSpec("x", "float32", [ANY, 2])])))
    with rest_server(EchoCatalogue(refusing)) as server:
        job = Job(f"http://{server.address}", questions.rest("/v2/models/toy/infer"), clients=1, time_s=0.1)
        assert not load.is_answered(job.url, job.payload)
        with pytest.raises(RuntimeError, match="400"):
            load.measure(job)


def _running(name: str, idle_bytes: int) -> Running:
    return Running(name, [Way("REST JSON", "", "")], 1.0, idle_bytes)


def test_aims_are_ratios_of_the_same_run() -> None:
    up = {name: _running(name, size) for name, size in (("edge-agent", 50), ("MLServer, in process", 100))}
    measured = {
        ("edge-agent", "REST JSON", 1): [Load(30, 1), Load(100, 1)],
        ("MLServer, in process", "REST JSON", 1): [Load(100, 1), Load(200, 1)],
    }
    assert [(aim.value, aim.holds) for aim in _aims(up, measured)] == [(0.4, True), (None, None), (0.5, True), (1.0, True)]


def test_a_peer_that_cannot_be_installed_says_why(tmp_path) -> None:
    with pytest.raises(environments.NotInstalled, match="no-such-python"):
        environments.python_of("mlserver", tmp_path, "no-such-python")


def test_a_server_that_does_not_come_up_shows_its_log() -> None:
    way = Way("REST JSON", "http://127.0.0.1:1", questions.rest("/"))
    broken = servers.Contender("broken", ["sh", "-c", "echo out of order; exit 3"], [way])
    with pytest.raises(RuntimeError, match="out of order"), servers.running(broken):
        pass
