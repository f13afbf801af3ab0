"""The Open Inference Protocol v2 as REST: a foreign client finds, calls and understands the models of this device."""

import hashlib
import http.client
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from edge_agent.errors import AgentError, Fatal, Reject, Retry
from edge_agent.serving.address import TcpAddress, UnixAddress
from edge_agent.serving.guard import guard_of
from edge_agent.serving.http.server import HttpServer
from edge_agent.serving.metrics import Metric, Point, render
from edge_agent.serving.refusals import Refused
from fleet_contract import limits
from fleet_contract.inputs import TensorsInput
from fleet_contract.manifest import State
from fleet_contract.outputs import Raw
from fleet_contract.tensors import ANY, DType, TensorSpec
from tests.fakes.agent_serving import (
    CLASSES,
    DTYPES,
    LOOPBACK,
    VECTOR,
    EchoCatalogue,
    EchoPredictor,
    echo_manifest,
    every_dtype,
    manifest_of,
    rest_server,
)

VALUES = {dtype: np.array([[0, 1, 1], [1, 0, 1]]).astype(dtype) for dtype in DTYPES if dtype != "string"}
VALUES |= {"string": np.array([[b"", b"a", "ä".encode()], [b"longer", b" ", b"0"]], object)}
VALUES |= {"int64": np.array([[-(2**63), 2**63 - 1]]), "uint64": np.array([[0, 2**64 - 1]], np.uint64)}
LOOSE = [TensorSpec("x", "float32", [ANY, ANY], finite=False)]
STEP = State("h", "h_next", "float32", [1, 2])


@pytest.fixture(scope="module")
def server() -> Iterator[HttpServer]:
    extra = [EchoPredictor("loose", manifest_of(TensorsInput(LOOSE), Raw(LOOSE))), EchoPredictor("raw/ü", echo_manifest("float32"))]
    stepping = EchoPredictor("stepping", manifest_of(VECTOR, CLASSES, states=[STEP]))
    known = every_dtype()
    with rest_server(EchoCatalogue(*map(known.find, known.names()), *extra, stepping)) as running:
        yield running


@pytest.fixture
def client(server: HttpServer) -> Iterator[triton.InferenceServerClient]:
    with triton.InferenceServerClient(str(server.address)) as connected:
        yield connected


def given(array: np.ndarray, *, binary: bool = True, name: str = "x") -> triton.InferInput:
    tensor = triton.InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype))
    return tensor.set_data_from_numpy(array, binary_data=binary)


def ask(server: HttpServer, method: str, path: str, body: object = None, **fields: str) -> tuple[int, dict, dict]:
    """Status, header fields, and the body as JSON."""
    address = server.address
    connection = http.client.HTTPConnection(address.host, address.port, timeout=20)
    try:
        text = body if isinstance(body, bytes) else json.dumps(body).encode() if body is not None else None
        connection.request(method, path, text, {name.replace("_", "-"): value for name, value in fields.items()})
        response = connection.getresponse()
        return response.status, dict(response.getheaders()), json.loads(response.read())
    finally:
        connection.close()


def tensor(data: object, shape: list[int] | None = None, datatype: str = "FP32", **more: object) -> dict:
    return {"inputs": [{"name": "x", "shape": shape or [1, 2], "datatype": datatype, "data": data}], **more}


def test_the_server_and_its_models_describe_themselves(client: triton.InferenceServerClient) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("toy")
    assert client.is_model_ready("toy", "1.0.0")
    assert not client.is_model_ready("toy", "2.0.0")
    assert "binary_tensor_data" in client.get_server_metadata()["extensions"]
    assert client.get_model_metadata("stepping") == {
        "name": "stepping",
        "versions": ["1.0.0"],
        "platform": "onnx_onnxv1",
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 2]}, {"name": "h", "datatype": "FP32", "shape": [1, 2]}],
        "outputs": [{"name": "x", "datatype": "FP32", "shape": [1, 2]}, {"name": "h_next", "datatype": "FP32", "shape": [1, 2]}],
    }
    listed = {entry["name"]: (entry["version"], entry["state"]) for entry in client.get_model_repository_index()}
    assert listed["toy"] == ("1.0.0", "READY")


@pytest.mark.parametrize("packed", [None, "gzip", "deflate"])
@pytest.mark.parametrize("binary_out", [True, False])
@pytest.mark.parametrize("binary_in", [True, False])
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_type_goes_there_and_back(
    client: triton.InferenceServerClient, dtype: DType, binary_in: bool, binary_out: bool, packed: str | None
) -> None:
    values = VALUES[dtype]
    wanted = [triton.InferRequestedOutput("x", binary_data=binary_out)]
    answer = client.infer(dtype, [given(values, binary=binary_in)], outputs=wanted, request_compression_algorithm=packed)
    found = answer.as_numpy("x")
    told = values if binary_out or dtype != "string" else np.vectorize(bytes.decode, otypes=[object])(values)
    np.testing.assert_array_equal(found, told)
    assert found.dtype == values.dtype
    assert answer.get_response()["model_version"] == "1.0.0"


def test_the_request_decides_what_comes_back(client: triton.InferenceServerClient) -> None:
    values = np.array([[1, 2]], np.float32)
    state = np.array([[5, 6]], np.float32)
    answer = client.infer("stepping", [given(values), given(state, name="h")], request_id="42", model_version="1.0.0")
    np.testing.assert_array_equal(answer.as_numpy("h_next"), state)
    assert answer.get_response()["id"] == "42"
    one = client.infer("stepping", [given(values)], outputs=[triton.InferRequestedOutput("h_next")])
    assert one.as_numpy("x") is None
    np.testing.assert_array_equal(one.as_numpy("h_next"), [[0, 0]])


def test_two_rows_at_once_for_a_model_with_states_are_the_callers_fault(client: triton.InferenceServerClient) -> None:
    with pytest.raises(InferenceServerException, match=r"'x' has shape \[1, 2\], not \[2, 2\]") as caught:
        client.infer("stepping", [given(np.array([[1, 2], [3, 4]], np.float32))])
    assert caught.value.status() == "400"


def test_the_best_classes_may_be_asked_for(client: triton.InferenceServerClient) -> None:
    wanted = [triton.InferRequestedOutput("x", class_count=1)]
    answer = client.infer("toy", [given(np.array([[1, 2], [4, 3]], np.float32))], outputs=wanted)
    assert answer.as_numpy("x").tolist() == [[b"2.000000:1:yes"], [b"4.000000:0:no"]]


@pytest.mark.parametrize(
    ("data", "shape"),
    [
        pytest.param([1, 2.5, 3, 4], [2, 2], id="flat"),
        pytest.param([[1, 2.5], [3, 4]], [2, 2], id="nested"),
        pytest.param([[1, 2.5, 3, 4]], [1, 4], id="one-row"),
    ],
)
def test_json_tensors_may_be_flat_or_nested(server: HttpServer, data: list, shape: list[int]) -> None:
    status, _, told = ask(server, "POST", "/v2/models/float32/infer", tensor(data, shape))
    assert (status, told["outputs"]) == (200, [{"name": "x", "datatype": "FP32", "shape": shape, "data": [1, 2.5, 3, 4]}])


def test_what_outputs_mean_is_told_when_asked_for(server: HttpServer) -> None:
    _, _, told = ask(server, "POST", "/v2/models/toy/infer", tensor([0, 3, 3, 0], [2, 2], parameters={"answers": True}))
    answers = told["parameters"]["answers"]
    assert [(answer["label"], answer["abstained"], round(answer["value"], 3)) for answer in answers] == [
        ("yes", False, 0.953),
        ("no", False, 0.953),
    ]
    assert "parameters" not in ask(server, "POST", "/v2/models/toy/infer", tensor([0, 3]))[2]


def test_json_has_no_word_for_infinity(server: HttpServer) -> None:
    body = np.array([[np.nan, np.inf]], np.float32).tobytes()
    head = json.dumps({"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32", "parameters": {"binary_data_size": 8}}]}).encode()
    _, _, told = ask(server, "POST", "/v2/models/loose/infer", head + body, Inference_Header_Content_Length=str(len(head)))
    assert told["outputs"][0]["data"] == [None, None]


def test_a_model_of_any_name_is_found(server: HttpServer) -> None:
    assert ask(server, "GET", "/v2/models/raw%2F%C3%BC")[2]["name"] == "raw/ü"


@pytest.mark.parametrize(
    ("body", "code"),
    [
        pytest.param(b"{", "bad-request", id="no-json"),
        pytest.param(b"[" * 100_000, "bad-request", id="nested-without-end"),
        pytest.param([], "bad-request", id="no-object"),
        pytest.param({"inputs": []}, "bad-request", id="no-inputs"),
        pytest.param({"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32"}]}, "bad-tensor", id="no-data"),
        pytest.param(tensor([1, 2], [1, -2]), "bad-request", id="negative-axis"),
        pytest.param(tensor([1, 2, 3]), "bad-tensor", id="too-many-values"),
        pytest.param(tensor([1]), "bad-tensor", id="too-few-values"),
        pytest.param(tensor([[1, 2], [3]], [2, 2]), "bad-tensor", id="ragged"),
        pytest.param(tensor([[[1, 2]]]), "bad-tensor", id="too-deep"),
        pytest.param(tensor([1, "2"]), "bad-tensor", id="text"),
        pytest.param(tensor([1, None]), "bad-tensor", id="null"),
        pytest.param(tensor({"a": 1}), "bad-tensor", id="object"),
        pytest.param(tensor([1, 2], parameters={"sequence_id": 7}), "unsupported", id="sequence"),
        pytest.param(tensor([1, 2], outputs=[{"name": "z"}]), "bad-tensor", id="unknown-output"),
        pytest.param(tensor([1, 2], datatype="BF16"), "unsupported", id="bf16"),
        pytest.param(tensor([1, 20]), "out-of-range", id="out-of-range"),
        pytest.param(tensor([1, 1e39]), "not-finite", id="beyond-float32"),
        pytest.param(
            {"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32", "parameters": {"shared_memory_region": "r"}}]},
            "unsupported",
            id="shared-memory",
        ),
        pytest.param(
            {"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32", "parameters": {"binary_data_size": 8}}]},
            "bad-tensor",
            id="binary-that-is-not-there",
        ),
    ],
)
def test_a_wrong_request_is_told_and_the_connection_stays(server: HttpServer, body: object, code: str) -> None:
    status, _, told = ask(server, "POST", "/v2/models/toy/infer", body)
    assert (status, told["code"]) == (400, code)


@pytest.mark.parametrize("length", ["1000", "-1", "x"])
def test_a_wrong_header_length_is_told(server: HttpServer, length: str) -> None:
    assert ask(server, "POST", "/v2/models/toy/infer", tensor([1, 2]), Inference_Header_Content_Length=length)[0] == 400


@pytest.mark.parametrize("values", [[300], [-1], [1.5], [2**70]])
def test_a_number_that_its_type_cannot_hold_is_told(server: HttpServer, values: list) -> None:
    status, _, told = ask(server, "POST", "/v2/models/uint8/infer", tensor(values, [1, 1], "UINT8"))
    assert (status, told["code"]) == (400, "bad-tensor")


def test_large_tensors_as_json_are_taken_one_at_a_time() -> None:
    rows = limits.MAX_SIDE_BY_SIDE_JSON_BYTES // 4
    large, hurried = (tensor([1] * 2 * rows, [rows, 2], **more) for more in ({}, {"parameters": {"timeout": 1_000}}))
    toy = EchoPredictor("toy", manifest_of(VECTOR, CLASSES))
    toy.open.clear()
    with rest_server(EchoCatalogue(toy)) as server, ThreadPoolExecutor(1) as callers:
        first = callers.submit(ask, server, "POST", "/v2/models/toy/infer", large)
        assert toy.entered.wait(30)
        status, _, told = ask(server, "POST", "/v2/models/toy/infer", hurried)
        assert (status, told["code"], len(toy.timeouts_s)) == (504, "deadline", 1)
        toy.open.set()
        assert first.result(30)[0] == 200
        assert ask(server, "POST", "/v2/models/toy/infer", large)[0] == 200


def test_large_tensors_must_be_binary(server: HttpServer) -> None:
    status, _, told = ask(server, "POST", "/v2/models/float32/infer", tensor([0.5] * 1_100_000, [1, 1_100_000]))
    assert (status, "as binary data" in told["error"]) == (413, True)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 404),
        ("GET", "/v2/models", 404),
        ("GET", "/v2/models/", 404),
        ("GET", "/v2/models/toy/fly", 404),
        ("GET", "/v2/models/nobody", 404),
        ("GET", "/v2/models/nobody/ready", 404),
        ("GET", "/v2/models/toy/versions/9", 404),
        ("POST", "/v2/models/nobody/infer", 404),
        ("GET", "/v2/models/toy/infer", 405),
        ("DELETE", "/v2/models/toy", 405),
        ("POST", "/v2/health/live", 405),
    ],
)
def test_what_is_not_there_is_told(server: HttpServer, method: str, path: str, status: int) -> None:
    found, fields, _ = ask(server, method, path, {"inputs": [{"name": "x", "shape": [1], "datatype": "FP32", "data": [1]}]})
    assert found == status
    assert ("Allow" in fields) == (status == 405)


@pytest.mark.parametrize(
    ("failure", "status"),
    [
        pytest.param(Retry("x", code="overloaded"), 503, id="overloaded"),
        pytest.param(Retry("x", code="deadline"), 504, id="deadline"),
        pytest.param(Retry("x", code="worker-crashed"), 503, id="worker-crashed"),
        pytest.param(Reject("x", code="non-finite"), 500, id="wrong-answer"),
    ],
)
def test_the_hosts_errors_have_their_statuses(failure: AgentError, status: int) -> None:
    with rest_server(EchoCatalogue(EchoPredictor("toy", manifest_of(VECTOR, CLASSES), failure))) as server:
        found, fields, told = ask(server, "POST", "/v2/models/toy/infer", tensor([1, 2]))
    assert (found, told["code"]) == (status, failure.code)
    assert ("Retry-After" in fields) == (status == 503)


def test_a_model_without_a_bundle_is_known_and_not_ready() -> None:
    with rest_server(EchoCatalogue(EchoPredictor("toy", None))) as server, triton.InferenceServerClient(str(server.address)) as client:
        assert client.is_server_live()
        assert not client.is_server_ready()
        assert not client.is_model_ready("toy")
        with pytest.raises(InferenceServerException, match="no bundle yet") as caught:
            client.infer("toy", [given(np.ones((1, 2), np.float32))])
        assert caught.value.status() == "503"
        assert client.get_model_repository_index()[0]["state"] == "UNAVAILABLE"


def test_what_a_caller_says_is_cut_before_it_comes_back(server: HttpServer) -> None:
    long = "x" * 100_000
    wrong = [
        tensor([1, 2], datatype=long),
        {"inputs": [{"name": long, "shape": [1], "datatype": "FP32"}]},
        tensor([1, 2], outputs=[{"name": long}]),
    ]
    told = [ask(server, "POST", "/v2/models/toy/infer", body)[2]["error"] for body in wrong]
    assert max(map(len, told)) < 300


def test_a_model_that_cannot_be_one_is_not_ready_and_the_others_are_told_of() -> None:
    class Unfit(EchoPredictor):
        def view(self) -> None:
            raise Reject("its members do not fit together", code="no-ensemble")

    with rest_server(EchoCatalogue(EchoPredictor("toy", echo_manifest("int8")), Unfit("both", None))) as server:
        assert ask(server, "GET", "/v2/health/ready")[0] == 503
        assert ask(server, "GET", "/v2/models/both/ready")[0] == 503
        index = ask(server, "POST", "/v2/repository/index")[2]
    assert [(entry["name"], entry["state"], entry["reason"]) for entry in index] == [
        ("toy", "READY", ""),
        ("both", "UNAVAILABLE", "its members do not fit together"),
    ]


def test_a_timeout_of_the_caller_reaches_the_model() -> None:
    predictor = EchoPredictor("toy", manifest_of(VECTOR, CLASSES))
    with rest_server(EchoCatalogue(predictor)) as server, triton.InferenceServerClient(str(server.address)) as client:
        client.infer("toy", [given(np.ones((1, 2), np.float32))], timeout=250_000)
        client.infer("toy", [given(np.ones((1, 2), np.float32))])
    assert predictor.timeouts_s == [0.25, None]


def test_what_was_served_is_counted() -> None:
    with rest_server(EchoCatalogue(EchoPredictor("toy", manifest_of(VECTOR, CLASSES)))) as server:
        for body in (tensor([1, 2]), tensor([1, 2]), tensor([1, 20])):
            ask(server, "POST", "/v2/models/toy/infer", body)
        ask(server, "POST", "/v2/models/a-name-of-the-caller's/infer", tensor([1, 2]))
        connection = http.client.HTTPConnection(server.address.host, server.address.port, timeout=20)
        connection.request("GET", "/metrics")
        text = connection.getresponse().read().decode()
        connection.close()
    assert 'edge_agent_requests_refused_total{model="toy",code="out-of-range"} 1\n' in text
    assert 'edge_agent_requests_refused_total{model="",code="unknown-model"} 1\n' in text
    assert 'edge_agent_request_seconds_bucket{model="toy",le="+Inf"} 2\n' in text
    assert 'edge_agent_request_seconds_count{model="toy"} 2\n' in text
    assert "caller" not in text


def test_metrics_of_one_name_come_together_and_labels_are_escaped() -> None:
    one = [Metric("a_total", "counter", "Told\nthus.", [Point({"n": 'a"\\\n'}, 1)])]
    two = [Metric("a_total", "counter", "Told\nthus.", [Point({}, 0.5)])]
    assert render([lambda: one, lambda: two]) == (
        '# HELP a_total Told\\nthus.\n# TYPE a_total counter\na_total{n="a\\"\\\\\\n"} 1\na_total 0.5\n'
    )


TOKEN = "correct horse battery staple"


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    path = tmp_path / "tokens"
    path.touch(0o600)
    path.write_text(f"{'0' * 64}  another\n{hashlib.sha256(TOKEN.encode()).hexdigest()}  -\n")
    return path


@pytest.mark.parametrize(
    ("field", "status"),
    [
        pytest.param(f"Bearer {TOKEN}", 200, id="right"),
        pytest.param(f"bearer {TOKEN}", 200, id="scheme-in-lower-case"),
        pytest.param("Bearer wrong", 401, id="wrong"),
        pytest.param("Basic YTpi", 401, id="other-scheme"),
        pytest.param(None, 401, id="none"),
    ],
)
def test_with_a_token_file_a_token_is_needed(token_file: Path, field: str | None, status: int) -> None:
    with rest_server(EchoCatalogue(EchoPredictor("toy", None)), token_file=token_file) as server:
        fields = {} if field is None else {"Authorization": field}
        found, answered, told = ask(server, "GET", "/v2/health/live", **fields)
    assert found == status
    assert ("WWW-Authenticate" in answered) == (status == 401)
    assert TOKEN not in str(told)


@pytest.mark.parametrize("host", ["localhost:1", "127.0.0.1", "[::1]:9", "192.168.0.2"])
def test_the_board_may_be_called_by_its_addresses(server: HttpServer, host: str) -> None:
    assert ask(server, "GET", "/v2/health/live", Host=host)[0] == 200


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({"Host": "evil.example"}, id="rebinds-its-name"),
        pytest.param({"Origin": "https://evil.example"}, id="of-another-origin"),
        pytest.param({"Origin": "null"}, id="of-no-origin"),
    ],
)
def test_a_web_page_is_turned_away(server: HttpServer, fields: dict[str, str]) -> None:
    status, _, told = ask(server, "POST", "/v2/models/toy/infer", tensor([1, 2]), **fields)
    assert (status, told["code"]) == (403, "forbidden")


def test_beyond_the_board_a_token_file_is_needed(tmp_path: Path) -> None:
    with pytest.raises(Fatal, match="a token file is needed"):
        guard_of(TcpAddress("0.0.0.0", 80), None)
    guard_of(UnixAddress(tmp_path / "s"), None).check(None, "anything")
    guard_of(LOOPBACK, None).check(None, "localhost")
    with pytest.raises(Refused):
        guard_of(LOOPBACK, None).check(None, "evil.example")


@pytest.mark.parametrize(
    ("text", "mode", "told"),
    [
        pytest.param("", 0o600, "must hold a SHA-256", id="empty"),
        pytest.param("secret\n", 0o600, "must hold a SHA-256", id="the-token-itself"),
        pytest.param("0" * 64, 0o666, "others may write", id="writable"),
        pytest.param("0" * 100_000, 0o600, "more than 65536 bytes", id="huge"),
    ],
)
def test_a_token_file_that_is_none_is_refused(tmp_path: Path, text: str, mode: int, told: str) -> None:
    path = tmp_path / "tokens"
    path.write_text(text)
    path.chmod(mode)
    with pytest.raises(Fatal, match=told) as caught:
        guard_of(LOOPBACK, path)
    assert "secret" not in str(caught.value)
