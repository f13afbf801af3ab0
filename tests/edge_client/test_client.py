"""A local application calls the models of its board with the small client."""

import hashlib
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from edge_agent.errors import Reject, Retry
from edge_agent.serving.address import Address, UnixAddress
from edge_agent.serving.http.bounds import Bounds
from edge_client import Busy, Client, Faulty, Refused, Unreachable
from fleet_contract.manifest import State
from tests.fakes.agent_serving import CLASSES, DTYPES, LOOPBACK, VECTOR, EchoCatalogue, EchoPredictor, every_dtype, manifest_of, rest_server

ROWS = np.array([[1, 2], [4, 3]], np.float32)


def url(address: Address) -> str:
    return str(address) if isinstance(address, UnixAddress) else f"http://{address}"


@pytest.fixture(params=["tcp", "unix"])
def client(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Client]:
    address = LOOPBACK if request.param == "tcp" else UnixAddress(tmp_path / "models.sock")
    known = every_dtype()
    stepping = EchoPredictor("stepping", manifest_of(VECTOR, CLASSES, states=[State("h", "h_next", "float32", [1, 2])]))
    catalogue = EchoCatalogue(*map(known.find, known.names()), stepping, EchoPredictor("empty", None))
    with rest_server(catalogue, address) as server, Client(url(server.address)) as connected:
        yield connected


def test_it_finds_the_models(client: Client) -> None:
    assert client.is_ready("toy")
    assert not client.is_ready("empty")
    assert not client.is_ready()
    assert {"name": "toy", "version": "1.0.0", "state": "READY", "reason": ""} in client.models()
    assert client.metadata("toy")["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, 2]}]


@pytest.mark.parametrize("dtype", DTYPES)
def test_it_sends_and_receives_every_type(client: Client, dtype: str) -> None:
    values = np.array([[b"", b"a"], [b"longer", b" "]], object) if dtype == "string" else np.array([[0, 1], [1, 1]]).astype(dtype)
    answer = client.infer(dtype, {"x": values})
    assert (answer.model, answer.version, answer.answers) == (dtype, "1.0.0", None)
    assert answer.outputs["x"].dtype == values.dtype
    np.testing.assert_array_equal(answer.outputs["x"], values)


def test_it_asks_for_some_outputs_and_for_what_they_mean(client: Client) -> None:
    answer = client.infer("stepping", {"x": ROWS[:1], "h": ROWS[:1]}, outputs=["h_next"], version="1.0.0", answers=True, timeout_s=1.0)
    assert list(answer.outputs) == ["h_next"]
    assert [row["label"] for row in answer.answers or []] == ["yes"]


@pytest.mark.parametrize(
    ("model", "inputs", "code"),
    [
        pytest.param("nobody", {"x": ROWS}, "unknown-model", id="unknown-model"),
        pytest.param("toy", {"y": ROWS}, "bad-tensor", id="unknown-input"),
        pytest.param("toy", {"x": ROWS * 100}, "out-of-range", id="out-of-range"),
    ],
)
def test_a_wrong_request_is_refused(client: Client, model: str, inputs: dict, code: str) -> None:
    with pytest.raises(Refused) as caught:
        client.infer(model, inputs)
    assert caught.value.code == code
    assert client.is_ready("toy")


def test_an_array_that_cannot_be_sent_is_told_at_once(client: Client) -> None:
    with pytest.raises(ValueError, match="complex128"):
        client.infer("toy", {"x": np.ones((1, 2), complex)})


@pytest.mark.parametrize(
    ("failure", "error"),
    [
        pytest.param(Retry("x", code="overloaded"), Busy, id="overloaded"),
        pytest.param(Retry("x", code="worker-timeout"), Busy, id="hang"),
        pytest.param(Reject("x", code="wrong-answer"), Faulty, id="wrong-answer"),
    ],
)
def test_failures_are_cut_by_what_to_do_next(failure: Exception, error: type[Exception]) -> None:
    predictor = EchoPredictor("toy", manifest_of(VECTOR, CLASSES), failure)
    with rest_server(EchoCatalogue(predictor)) as server, Client(url(server.address)) as client, pytest.raises(error):
        client.infer("toy", {"x": ROWS})


def test_it_connects_anew_when_the_agent_has_closed_an_idle_connection() -> None:
    bounds = Bounds(idle_s=0.05, closing_s=5.0)
    with rest_server(every_dtype(), bounds=bounds) as server, Client(url(server.address)) as client:
        assert client.is_ready()
        while next(iter(server.metrics())).points[0].value:
            threading.Event().wait(0.01)
        assert client.is_ready()


def test_a_token_is_sent(tmp_path: Path) -> None:
    path = tmp_path / "tokens"
    path.write_text(hashlib.sha256(b"secret").hexdigest())
    path.chmod(0o600)
    with rest_server(every_dtype(), token_file=path) as server:
        with Client(url(server.address), token="secret") as client:
            assert client.is_ready()
        with Client(url(server.address)) as client, pytest.raises(Refused):
            client.is_ready()


def test_nobody_there_is_told(tmp_path: Path) -> None:
    with Client(f"unix:{tmp_path / 'none'}") as client, pytest.raises(Unreachable):
        client.is_ready()


def test_an_agent_that_says_nothing_is_given_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        client = Client(f"http://127.0.0.1:{silent.getsockname()[1]}", timeout_s=0.1)
        with pytest.raises(Unreachable):
            client.is_ready()


@pytest.mark.parametrize("address", ["", "127.0.0.1:80", "https://localhost", "http://"])
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(ValueError, match="is no address"):
        Client(address)
