"""The Open Inference Protocol v2 over gRPC: a foreign client finds, calls and understands the models of this device."""

import hashlib
import json
import os
import queue
import socket
import stat
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton
from tritonclient.grpc import service_pb2 as foreign
from tritonclient.grpc import service_pb2_grpc
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from edge_agent.errors import AgentError, Fatal, Reject, Retry
from edge_agent.serving.address import TcpAddress, UnixAddress, bound, listen
from edge_agent.serving.grpc_server import Bounds, GrpcServer
from fleet_contract import limits
from fleet_contract.inputs import TensorsInput
from fleet_contract.manifest import State
from fleet_contract.outputs import Raw
from fleet_contract.tensors import ANY, DType, TensorSpec
from tests.fakes.agent_grpc import grpc_server
from tests.fakes.agent_serving import CLASSES, DTYPES, LOOPBACK, VECTOR, EchoCatalogue, EchoPredictor, every_dtype, manifest_of

VALUES = {dtype: np.array([[0, 1, 1], [1, 0, 1]]).astype(dtype) for dtype in DTYPES if dtype != "string"}
VALUES |= {"string": np.array([[b"", b"a", "ä".encode()], [b"longer", b" ", b"\xff"]], object)}
VALUES |= {"int64": np.array([[-(2**63), 2**63 - 1]]), "uint64": np.array([[0, 2**64 - 1]], np.uint64)}
CONTENTS = {"b": "bool", "i": "int", "u": "uint", "O": "bytes"}
STEP = State("h", "h_next", "float32", [1, 2])


@contextmanager
def client_of(server: GrpcServer) -> Iterator[triton.InferenceServerClient]:
    client = triton.InferenceServerClient(str(server.address))
    try:
        yield client
    finally:
        client.close()


@pytest.fixture(scope="module")
def server() -> Iterator[GrpcServer]:
    known = every_dtype()
    models = [known.find(name) for name in known.names()]
    stepping = EchoPredictor("stepping", manifest_of(VECTOR, CLASSES, states=[STEP]))
    with grpc_server(EchoCatalogue(*models, stepping, EchoPredictor("empty", None))) as running:
        yield running


@pytest.fixture
def client(server: GrpcServer) -> Iterator[triton.InferenceServerClient]:
    with client_of(server) as connected:
        yield connected


@pytest.fixture
def stub(server: GrpcServer) -> Iterator[service_pb2_grpc.GRPCInferenceServiceStub]:
    with grpc.insecure_channel(str(server.address)) as channel:
        yield service_pb2_grpc.GRPCInferenceServiceStub(channel)


def given(array: np.ndarray, name: str = "x"):
    tensor = triton.InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype))
    tensor.set_data_from_numpy(array)
    return tensor


def request(values: np.ndarray | None = None, *, model: str = "toy", **changes):
    """Raw, of one tensor."""
    values = np.array([[1, 2]], np.float32) if values is None else values
    made = foreign.ModelInferRequest(model_name=model, **changes)
    made.inputs.add(name="x", datatype=np_to_triton_dtype(values.dtype), shape=values.shape)
    made.raw_input_contents.append(values.tobytes())
    return made


def refusal(stub, wrong) -> tuple[str, str]:
    with pytest.raises(grpc.RpcError) as refused:
        stub.ModelInfer(wrong, timeout=30)
    return refused.value.code().name, refused.value.details()


def test_the_server_and_its_models_describe_themselves(client) -> None:
    assert client.is_server_live()
    assert not client.is_server_ready(), "one model has no bundle"
    assert client.is_model_ready("toy")
    assert not client.is_model_ready("empty")
    assert not client.is_model_ready("toy", "2.0.0")
    assert client.get_server_metadata().name == "edge-agent"
    described = client.get_model_metadata("stepping", "1.0.0", as_json=True)
    assert (described["name"], described["versions"], described["platform"]) == ("stepping", ["1.0.0"], "onnx_onnxv1")
    assert described["inputs"] == [
        {"name": "x", "datatype": "FP32", "shape": ["1", "2"]},
        {"name": "h", "datatype": "FP32", "shape": ["1", "2"]},
    ]
    assert [tensor["name"] for tensor in described["outputs"]] == ["x", "h_next"]


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_type_goes_there_and_back_raw(client, dtype: DType) -> None:
    answer = client.infer(dtype, [given(VALUES[dtype])], request_id="7", compression_algorithm="gzip")
    np.testing.assert_array_equal(answer.as_numpy("x"), VALUES[dtype])
    assert answer.as_numpy("x").dtype == VALUES[dtype].dtype
    assert (answer.get_response().id, answer.get_response().model_version) == ("7", "1.0.0")


@pytest.mark.parametrize("dtype", [dtype for dtype in DTYPES if dtype != "float16"])
def test_every_type_but_one_goes_there_and_back_typed(stub, dtype: DType) -> None:
    values = VALUES[dtype]
    wide = "64" if values.dtype.itemsize == 8 and values.dtype.kind in "iu" else ""
    field = f"fp{dtype[-2:]}_contents" if values.dtype.kind == "f" else f"{CONTENTS[values.dtype.kind]}{wide}_contents"
    made = foreign.ModelInferRequest(model_name=dtype)
    tensor = made.inputs.add(name="x", datatype=np_to_triton_dtype(values.dtype), shape=values.shape)
    getattr(tensor.contents, field).extend(values.ravel().tolist())
    told = stub.ModelInfer(made)
    assert list(getattr(told.outputs[0].contents, field)) == values.ravel().tolist()
    assert list(told.raw_output_contents) == []


def test_states_are_given_back_by_the_caller(client) -> None:
    state = np.array([[5, 6]], np.float32)
    answer = client.infer("stepping", [given(np.array([[1, 2]], np.float32)), given(state, "h")])
    np.testing.assert_array_equal(answer.as_numpy("h_next"), state)


def test_only_the_outputs_that_were_asked_for(client) -> None:
    wanted = [triton.InferRequestedOutput("h_next")]
    answer = client.infer("stepping", [given(np.array([[1, 2]], np.float32))], outputs=wanted)
    assert [tensor.name for tensor in answer.get_response().outputs] == ["h_next"]


def test_the_best_classes_may_be_asked_for(client) -> None:
    wanted = [triton.InferRequestedOutput("x", class_count=1)]
    answer = client.infer("toy", [given(np.array([[1, 2], [4, 3]], np.float32))], outputs=wanted)
    assert answer.as_numpy("x").tolist() == [[b"2.000000:1:yes"], [b"4.000000:0:no"]]


def test_what_outputs_mean_is_told_when_asked_for(client) -> None:
    answer = client.infer("toy", [given(np.array([[0, 3]], np.float32))], parameters={"answers": True})
    answers = json.loads(answer.get_response().parameters["answers"].string_param)
    assert [(one["label"], round(one["value"], 3)) for one in answers] == [("yes", 0.953)]


ONE = np.array([[1, 2]], np.float32)


def typed(field: str, values: list, datatype: str = "FP32", shape: tuple[int, ...] = (1, 2)):
    made = foreign.ModelInferRequest(model_name="toy")
    tensor = made.inputs.add(name="x", datatype=datatype, shape=shape)
    getattr(tensor.contents, field).extend(values)
    return made


def both():
    made = request()
    made.inputs[0].contents.fp32_contents.extend([1, 2])
    return made


def changed(change):
    made = request()
    change(made)
    return made


WRONG = [
    pytest.param(request(model="nobody"), "NOT_FOUND", "nobody", id="unknown-model"),
    pytest.param(request(model_version="9"), "NOT_FOUND", "'9'", id="unknown-version"),
    pytest.param(request(model="empty"), "UNAVAILABLE", "no bundle", id="no-bundle"),
    pytest.param(foreign.ModelInferRequest(model_name="toy"), "INVALID_ARGUMENT", "missing", id="no-inputs"),
    pytest.param(changed(lambda r: setattr(r.inputs[0], "name", "z")), "INVALID_ARGUMENT", "'z'", id="name"),
    pytest.param(request(ONE.astype(np.float64)), "INVALID_ARGUMENT", "FP64", id="dtype"),
    pytest.param(changed(lambda r: setattr(r.inputs[0], "datatype", "BF16")), "UNIMPLEMENTED", "BF16", id="bf16"),
    pytest.param(request(ONE[0]), "INVALID_ARGUMENT", "shape", id="rank"),
    pytest.param(request(np.ones((1, 3), np.float32)), "INVALID_ARGUMENT", "shape", id="shape"),
    pytest.param(changed(lambda r: r.inputs[0].shape.__setitem__(0, -1)), "INVALID_ARGUMENT", "shape", id="negative-axis"),
    pytest.param(changed(lambda r: r.raw_input_contents.__setitem__(0, b"123")), "INVALID_ARGUMENT", "3 bytes", id="byte-length"),
    pytest.param(changed(lambda r: r.raw_input_contents.append(b"")), "INVALID_ARGUMENT", "2 raw", id="raw-without-tensor"),
    pytest.param(both(), "INVALID_ARGUMENT", "both", id="raw-and-typed"),
    pytest.param(typed("fp32_contents", [1, 2, 3]), "INVALID_ARGUMENT", "3 values", id="too-many-values"),
    pytest.param(typed("fp64_contents", [1, 2]), "INVALID_ARGUMENT", "fp32_contents", id="another-types-contents"),
    pytest.param(typed("bytes_contents", [b"a"], "FP16"), "INVALID_ARGUMENT", "FP16", id="typed-half-floats"),
    pytest.param(typed("fp32_contents", []), "INVALID_ARGUMENT", "0 values", id="no-data"),
    pytest.param(request(np.array([[np.nan, 1]], np.float32)), "INVALID_ARGUMENT", "NaN", id="nan"),
    pytest.param(request(np.array([[1, 20]], np.float32)), "OUT_OF_RANGE", "b is 20", id="out-of-range"),
    pytest.param(changed(lambda r: r.outputs.add(name="z")), "INVALID_ARGUMENT", "'z'", id="unknown-output"),
    pytest.param(
        changed(lambda r: setattr(r.inputs[0].parameters["shared_memory_region"], "string_param", "r")),
        "UNIMPLEMENTED",
        "shared",
        id="shared-memory",
    ),
    pytest.param(changed(lambda r: setattr(r.parameters["sequence_id"], "int64_param", 7)), "UNIMPLEMENTED", "sequence", id="sequence"),
    pytest.param(changed(lambda r: setattr(r.parameters["timeout"], "int64_param", -7)), "INVALID_ARGUMENT", "-7", id="timeout"),
]


@pytest.mark.parametrize(("wrong", "code", "told"), WRONG)
def test_a_wrong_request_is_told_and_the_connection_stays(stub, wrong, code: str, told: str) -> None:
    found, details = refusal(stub, wrong)
    assert (found, told in details) == (code, True), details
    assert stub.ModelInfer(request()).model_name == "toy"


def test_bytes_that_are_no_message(server: GrpcServer) -> None:
    with grpc.insecure_channel(str(server.address)) as channel:
        call = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        with pytest.raises(grpc.RpcError) as refused:
            call(b"\xff" * 40, timeout=30)
    assert (refused.value.code(), refused.value.details()) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        "40 bytes that are no ModelInferRequest [bad-request]",
    )


def test_a_message_larger_than_a_body_may_be(stub) -> None:
    wrong = request()
    wrong.raw_input_contents[0] = bytes(limits.MAX_GRPC_MESSAGE_BYTES + 1)
    assert refusal(stub, wrong)[0] == "RESOURCE_EXHAUSTED"


def test_methods_of_other_servers_are_not_there(client) -> None:
    with pytest.raises(InferenceServerException) as refused:
        client.load_model("toy")
    assert refused.value.status() == "StatusCode.UNIMPLEMENTED"


@pytest.mark.parametrize(
    ("failure", "code"),
    [
        pytest.param(Retry("x", code="overloaded"), "RESOURCE_EXHAUSTED", id="overloaded"),
        pytest.param(Retry("x", code="deadline"), "DEADLINE_EXCEEDED", id="deadline"),
        pytest.param(Retry("x", code="worker-crashed"), "UNAVAILABLE", id="worker-crashed"),
        pytest.param(Reject("x", code="non-finite"), "INTERNAL", id="wrong-answer"),
    ],
)
def test_the_hosts_errors_have_their_statuses(failure: AgentError, code: str) -> None:
    catalogue = EchoCatalogue(EchoPredictor("toy", manifest_of(VECTOR, CLASSES), failure))
    with grpc_server(catalogue) as server, grpc.insecure_channel(str(server.address)) as channel:
        found, details = refusal(service_pb2_grpc.GRPCInferenceServiceStub(channel), request())
    assert (found, failure.code in details) == (code, True)


@pytest.mark.parametrize(("deadline_s", "timeout_us", "least_s"), [(20, 0, 20), (20, 1_000_000, 1), (None, 1_000_000, 1), (None, 0, None)])
def test_the_callers_deadline_reaches_the_model(deadline_s: float | None, timeout_us: int, least_s: float | None) -> None:
    model = EchoPredictor("toy", manifest_of(VECTOR, CLASSES))
    with grpc_server(EchoCatalogue(model)) as server, client_of(server) as client:
        client.infer("toy", [given(ONE)], timeout=timeout_us or None, client_timeout=deadline_s)
    (found_s,) = model.timeouts_s
    assert found_s is None if least_s is None else 0 < found_s <= least_s


def test_a_request_under_way_is_answered_when_the_server_closes() -> None:
    model = EchoPredictor("toy", manifest_of(VECTOR, CLASSES))
    model.open.clear()
    with grpc_server(EchoCatalogue(model)) as server, client_of(server) as client:
        answers = []
        asking = threading.Thread(target=lambda: answers.append(client.infer("toy", [given(ONE)])))
        asking.start()
        assert model.entered.wait(30)
        closing = threading.Thread(target=server.close)
        closing.start()
        model.open.set()
        asking.join()
        closing.join()
    np.testing.assert_array_equal(answers[0].as_numpy("x"), ONE)


def test_more_requests_than_may_wait_are_refused() -> None:
    """Over a connection each: one alone would let the client wait for itself."""
    model = EchoPredictor("toy", manifest_of(VECTOR, CLASSES))
    model.open.clear()
    ended = queue.Queue()
    with grpc_server(EchoCatalogue(model), bounds=Bounds(threads=1, waiting=1)) as server, ExitStack() as closing:
        for _ in range(4):
            channel = closing.enter_context(grpc.insecure_channel(str(server.address), [("grpc.use_local_subchannel_pool", 1)]))
            service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer.future(request()).add_done_callback(ended.put)
        refused = [ended.get(timeout=30).code().name for _ in range(2)]
        model.open.set()
        answered = [ended.get(timeout=30).code().name for _ in range(2)]
    assert (refused, answered) == (["RESOURCE_EXHAUSTED"] * 2, ["OK"] * 2)


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """Of HTTP/2, RFC 9113."""
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def literal(name: bytes, value: str) -> bytes:
    """A header field that is not indexed, RFC 7541; `name` as it is on the wire."""
    return name + bytes([len(value)]) + value.encode()


def half_a_request() -> bytes:
    """The head of ModelInfer and ten bytes of a message of a thousand."""
    path, length = literal(b"\x04", "/inference.GRPCInferenceService/ModelInfer"), (1_000).to_bytes(4, "big")
    head = (
        b"\x83\x86" + path + literal(b"\x01", "localhost") + literal(b"\x0f\x10", "application/grpc") + literal(b"\x00\x02te", "trailers")
    )
    return b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0) + frame(1, 4, 1, head) + frame(0, 0, 1, b"\0" + length + bytes(10))


def test_half_a_request_ends_with_its_connection() -> None:
    bounds = Bounds(threads=1, age_s=1.0, grace_s=0.5)
    with grpc_server(every_dtype(), bounds=bounds) as server:
        with socket.create_connection((server.address.host, server.address.port), timeout=30) as slow:
            slow.sendall(half_a_request())
            while slow.recv(65_536):
                pass
        with client_of(server) as client:
            np.testing.assert_array_equal(client.infer("toy", [given(ONE)]).as_numpy("x"), ONE)


def test_half_a_request_on_a_young_connection_does_not_hold_a_thread() -> None:
    bounds = Bounds(threads=1, request_s=0.2)
    with grpc_server(every_dtype(), bounds=bounds) as server, socket.socket() as slow:
        slow.settimeout(30)
        slow.connect((server.address.host, server.address.port))
        slow.sendall(half_a_request())
        assert slow.recv(65_536)
        with client_of(server) as client:
            np.testing.assert_array_equal(client.infer("toy", [given(ONE)], client_timeout=60).as_numpy("x"), ONE)


def test_connections_are_bounded_and_one_that_says_nothing_makes_room() -> None:
    bounds = Bounds(connections=2, handshake_s=0.5)
    with ExitStack() as closing, grpc_server(every_dtype(), bounds=bounds) as server:
        where = (server.address.host, server.address.port)
        for _ in range(2):
            mute = closing.enter_context(socket.create_connection(where, timeout=30))
            assert mute.recv(65_536), "the server's settings: it was taken"
        with socket.create_connection(where, timeout=30) as beyond:
            assert beyond.recv(65_536) == b""
        while mute.recv(65_536):
            pass
        with client_of(server) as client:
            assert client.is_server_live(client_timeout=30)


class TestWhoMayCall:
    def test_a_token_where_there_is_a_file(self, tmp_path: Path) -> None:
        tokens = tmp_path / "tokens"
        tokens.write_text(hashlib.sha256(b"open sesame").hexdigest() + " the gateway\n")
        tokens.chmod(0o600)
        with grpc_server(every_dtype(), token_file=tokens) as server, client_of(server) as client:
            assert client.is_server_live(headers={"authorization": "Bearer open sesame"})
            for headers in ({}, {"authorization": "Bearer x"}):
                with pytest.raises(InferenceServerException) as refused:
                    client.infer("toy", [given(ONE)], headers=headers)
                assert refused.value.status() == "StatusCode.UNAUTHENTICATED"

    def test_a_unix_socket_for_owner_and_group(self, tmp_path: Path) -> None:
        path = tmp_path / "s"
        with grpc_server(every_dtype(), UnixAddress(path)) as server, client_of(server) as client:
            assert stat.S_IMODE(path.stat().st_mode) == 0o660
            np.testing.assert_array_equal(client.infer("toy", [given(ONE)]).as_numpy("x"), ONE)
        assert not os.path.lexists(path)

    def test_a_socket_that_a_dead_process_left(self, tmp_path: Path) -> None:
        address = UnixAddress(tmp_path / "s")
        listen(address).close()
        with grpc_server(every_dtype(), address) as server, client_of(server) as client:
            assert client.is_server_live()

    def test_a_socket_of_somebody_else(self, tmp_path: Path) -> None:
        address = UnixAddress(tmp_path / "s")
        with listen(address), pytest.raises(Fatal, match="another process"), grpc_server(every_dtype(), address):
            pass

    def test_a_port_of_somebody_else(self) -> None:
        with listen(LOOPBACK) as taken:
            address = bound(LOOPBACK, taken)
            with pytest.raises(Fatal, match="cannot listen"), grpc_server(every_dtype(), address):
                pass

    def test_another_boards_address_needs_a_token(self) -> None:
        with pytest.raises(Fatal, match="token"), grpc_server(every_dtype(), TcpAddress("0.0.0.0", 0)):
            pass


def test_what_the_manifest_lets_be_infinite_is(server: GrpcServer) -> None:
    loose = [TensorSpec("x", "float32", [ANY, ANY], finite=False)]
    catalogue = EchoCatalogue(EchoPredictor("loose", manifest_of(TensorsInput(loose), Raw(loose))))
    values = np.array([[np.nan, np.inf]], np.float32)
    with grpc_server(catalogue) as server, client_of(server) as client:
        np.testing.assert_array_equal(client.infer("loose", [given(values)]).as_numpy("x"), values)
