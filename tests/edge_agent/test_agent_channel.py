"""What supervisor and worker say to each other arrives as it was sent; what is not the protocol closes the channel, whoever says it."""

import os
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass

import msgspec
import numpy as np
import pytest

from edge_agent.inference import layout, protocol
from edge_agent.inference.arena import Arena
from edge_agent.inference.channel import INLINE, Channel
from edge_agent.inference.frame import ChannelClosed, Frame
from edge_agent.inference.layout import Head
from edge_agent.inference.protocol import Answer, Failed, Infer, Load

ARENA_BYTES = 2 * 1024 * 1024
FOR_EVER_S = 30.0
DTYPES = ["bool", "uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64", "float16", "float32", "float64"]


@dataclass
class Wire:
    """`raw` is the worker's socket, to say there what no worker should."""

    supervisor: Channel
    worker: Channel
    raw: socket.socket
    memory: Arena


@pytest.fixture
def wire() -> Iterator[Wire]:
    ours, theirs = socket.socketpair()
    arena = Arena.create(ARENA_BYTES)
    theirs_arena = Arena(os.dup(arena.fd))
    wire = Wire(Channel(ours, arena, protocol.replies), Channel(theirs, theirs_arena, protocol.requests), theirs, theirs_arena)
    yield wire
    wire.supervisor.close()
    wire.worker.close()


def _hear(wire: Wire, max_bytes: int = ARENA_BYTES) -> Frame:
    return wire.supervisor.receive(max_bytes, FOR_EVER_S, lambda: FOR_EVER_S)


TENSORS = [
    pytest.param({"x": np.array([[1, 2]], np.float32)}, id="one"),
    pytest.param({"a": np.arange(3, dtype=np.uint8), "b": np.arange(4.0), "c": np.array(7)}, id="several, on their boundaries"),
    pytest.param({"x": np.arange(12).reshape(3, 4).T}, id="in another order"),
    pytest.param({"x": np.arange(3, dtype=">f4")}, id="big-endian"),
    pytest.param({"x": np.zeros((0, 4), np.float32)}, id="no rows"),
    pytest.param({"x": np.array([b"a", "\xe4", b""], object), "y": np.ones(2)}, id="strings beside numbers"),
    pytest.param({"x": np.arange(100_000.0)}, id="too large for the socket"),
    pytest.param({"x": np.arange(10_000.0), "y": np.array([b"\xff" * 40_000], object)}, id="strings too large for the socket"),
    *[pytest.param({"x": np.arange(5).astype(dtype)}, id=dtype) for dtype in DTYPES],
]


@pytest.mark.parametrize("arrays", TENSORS)
def test_tensors_arrive_as_they_were_sent(wire: Wire, arrays: dict[str, np.ndarray]) -> None:
    """There and back, twice: the second time the header is known."""
    for _ in range(2):
        wire.supervisor.send_tensors(Infer, arrays, room_bytes=ARENA_BYTES // 2)
        request = wire.worker.await_frame(ARENA_BYTES)
        wire.worker.send_tensors(Answer, request.tensors(), beside=(0, request.shared_until))
        found = _hear(wire).copy()
        assert [*found] == [*arrays]
        for name, array in arrays.items():
            wanted = [item if isinstance(item, bytes) else item.encode() for item in array] if array.dtype == object else array.tolist()
            assert found[name].tolist() == wanted
            assert found[name].shape == array.shape
            assert found[name].flags.aligned


@pytest.mark.parametrize("sizes", [(3, 5), (50_000, 60_000), (3, 50_000), (50_000, 3)], ids=str)
def test_a_request_may_come_before_the_one_before_is_answered(wire: Wire, sizes: tuple[int, int]) -> None:
    """And the answers one behind the other, in the socket and in the arena."""
    wire.worker.send(protocol.Ready([]))
    _hear(wire)
    taken = wire.supervisor.send_tensors(Infer, {"x": np.full(sizes[0], 1.0)}, room_bytes=8 * sizes[0])
    wire.supervisor.send_tensors(Infer, {"x": np.full(sizes[1], 2.0)}, room_bytes=8 * sizes[1], beside=taken)
    for _ in sizes:
        request = wire.worker.await_frame(ARENA_BYTES)
        wire.worker.send_tensors(Answer, {"x": 10 * request.tensors()["x"]}, beside=(0, request.shared_until))
    answers = [_hear(wire).copy()["x"] for _ in sizes]
    assert [(len(answer), answer.min(), answer.max()) for answer in answers] == [(sizes[0], 10, 10), (sizes[1], 20, 20)]


def test_an_answer_that_nobody_asked_for_closes_the_channel(wire: Wire) -> None:
    wire.worker.send(protocol.Ready([]))
    _hear(wire)
    wire.supervisor.send_tensors(Infer, {"x": np.ones(3)})
    for _ in range(2):
        wire.worker.send_tensors(Answer, {"x": np.ones(3)})
    with pytest.raises(ChannelClosed, match="more than a frame"):
        _hear(wire)


def test_what_was_heard_stays_though_more_is_said(wire: Wire) -> None:
    for number in range(2):
        wire.worker.send_tensors(Answer, {"x": np.full(3, number)})
        if not number:
            first = _hear(wire).copy()
    assert first["x"].tolist() == [0, 0, 0]


def test_what_was_heard_stays_though_the_other_side_changes_what_is_shared(wire: Wire) -> None:
    wire.worker.send_tensors(Answer, {"x": np.ones(50_000)})
    found = _hear(wire).copy()["x"]
    wire.memory.view[:] = bytes(ARENA_BYTES)
    assert found.min() == 1


@pytest.mark.parametrize(
    ("size", "behind"),
    [
        pytest.param(ARENA_BYTES + 8, 0, id="larger than the arena"),
        pytest.param(ARENA_BYTES // 2 + 8, ARENA_BYTES // 2, id="behind the request"),
    ],
)
def test_more_than_is_shared_is_not_sent(wire: Wire, size: int, behind: int) -> None:
    with pytest.raises(ValueError, match="do not lie within"):
        wire.worker.send_tensors(Answer, {"x": np.zeros(size, np.uint8)}, beside=(0, behind))


def test_a_model_arrives_in_one_piece(wire: Wire) -> None:
    """Though it is larger than what a socket holds."""
    model, plan = bytes(range(256)) * 8_000, protocol.Load(_plan())
    sending = threading.Thread(target=wire.supervisor.send, args=(plan, model, FOR_EVER_S))
    sending.start()
    assert wire.worker.receive_model() == (plan, model)
    sending.join()


def test_a_worker_that_does_not_read_ends_the_senders_wait(wire: Wire) -> None:
    with pytest.raises(TimeoutError):
        wire.supervisor.send(Load(_plan()), bytes(4 * ARENA_BYTES), 0.01)


def test_a_worker_that_answers_without_reading_is_found_out(wire: Wire) -> None:
    """The requests that it leaves lying fill the socket."""
    with pytest.raises(TimeoutError):  # in which round, the buffers of the kernel decide
        while True:
            wire.worker.send_tensors(Answer, {"x": np.ones(1)})
            wire.supervisor.receive(64, 0.05, lambda: 0.0)
            wire.supervisor.send_tensors(Infer, {"x": np.ones(4_000)})


def _frame(header: bytes, payload: bytes = b"", *, length: int | None = None, at: int = INLINE) -> bytes:
    numbers = (len(header), len(payload) if length is None else length, at)
    whole = b"".join(number.to_bytes(8, "little") for number in numbers) + header
    return whole + bytes(-len(whole) % layout.ALIGNED_BYTES) + payload


def _answer(*heads: Head) -> bytes:
    return msgspec.msgpack.encode(Answer([*heads]))


ONE = Head("x", "float32", [2], 8)


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(b"", id="nothing at all"),
        pytest.param(b"\x01\x00", id="torn lengths"),
        pytest.param((2**31).to_bytes(8, "little") + bytes(8) + b"\xff" * 8, id="a giant header"),
        pytest.param(_frame(b"\x80", length=2**40), id="a giant payload"),
        pytest.param(_frame(b"\x80", length=2**40, at=0), id="a giant payload in the arena"),
        pytest.param(_frame(_answer(ONE), bytes(4), length=8), id="a torn payload"),
        pytest.param(_frame(_answer(ONE), bytes(8)) + b"\x00", id="bytes behind the frame"),
        pytest.param(_frame(_answer(ONE), length=8, at=ARENA_BYTES), id="behind the arena"),
        pytest.param(_frame(_answer(ONE), length=8, at=2**64 - 2), id="far behind the arena"),
        pytest.param(_frame(b"\xc1"), id="a header that is no msgpack"),
        pytest.param(_frame(b"\x80"), id="a header without a tag"),
        pytest.param(_frame(msgspec.msgpack.encode(Infer([]))), id="a request"),
        pytest.param(_frame(_answer(Head("x", "float32", [3], 8)), bytes(8)), id="a tensor longer than its bytes"),
        pytest.param(_frame(_answer(Head("x", "float32", [-1, -2], 8)), bytes(8)), id="a negative shape"),
        pytest.param(_frame(_answer(Head("x", "float32", [2**62, 4], 8)), bytes(8)), id="an overflowing shape"),
        pytest.param(_frame(_answer(Head("x", "float32", [0, 2**62], 0))), id="an impossible shape without values"),
        pytest.param(_frame(_answer(Head("x", "float32", [1] * 9, 4)), bytes(4)), id="too many axes"),
        pytest.param(_frame(_answer(ONE), bytes(16)), id="bytes left over"),
        pytest.param(_frame(_answer(ONE, ONE), bytes(72)), id="one name twice"),
        pytest.param(_frame(_answer(Head("x", "string", [1], 8)), b"\xff" * 8), id="a string behind the end"),
        pytest.param(_frame(_answer(Head("x", "string", [1], -8))), id="a negative length"),
        pytest.param(_frame(msgspec.msgpack.encode(Failed("bundle", "x"))), id="no tensors where some are wanted"),
    ],
)
def test_what_is_not_the_protocol_closes_the_channel(wire: Wire, raw: bytes) -> None:
    wire.raw.sendall(raw)
    wire.raw.shutdown(socket.SHUT_WR)
    with pytest.raises(ChannelClosed):
        _hear(wire, 1024).copy()


def test_an_answer_larger_than_allowed_closes_the_channel(wire: Wire) -> None:
    wire.worker.send_tensors(Answer, {"x": np.ones(10)})
    with pytest.raises(ChannelClosed, match="at most"):
        _hear(wire, 79)


def test_nothing_within_the_time_is_not_the_end(wire: Wire) -> None:
    with pytest.raises(TimeoutError):
        wire.supervisor.receive(64, 0.001, lambda: FOR_EVER_S)
    wire.worker.send_tensors(Answer, {"x": np.ones(1)})
    assert _hear(wire).copy()["x"].tolist() == [1]


def test_half_a_frame_is_the_end_when_the_rest_does_not_come(wire: Wire) -> None:
    wire.raw.sendall(_frame(_answer(ONE), bytes(8))[:-1])
    with pytest.raises(ChannelClosed, match="half a frame"):
        wire.supervisor.receive(64, FOR_EVER_S, lambda: 0.0)


@pytest.mark.parametrize(
    "act", [pytest.param(lambda fd: os.ftruncate(fd, 0), id="smaller"), pytest.param(lambda fd: os.ftruncate(fd, 2**30), id="larger")]
)
def test_nobody_changes_the_size_of_what_is_shared(wire: Wire, act) -> None:
    with pytest.raises(PermissionError):
        act(wire.memory.fd)


def _plan():
    from edge_agent.inference.plan import Bound, Plan

    return Plan([Bound("x", "x", "float32")], [Bound("y", "y", "float32")], "CPUExecutionProvider", {}, "fp32", threads=1)
