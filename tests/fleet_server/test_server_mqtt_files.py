"""Serving files over MQTT: which blocks are sent, and how a request is refused."""

from pathlib import Path

import pytest

from fleet_contract import blocks, limits, messages
from fleet_contract.messages import Block, Refusal, Want
from fleet_contract.mqtt import Offline
from fleet_server.errors import NotFound
from fleet_server.mqtt.counts import Count, Counts
from fleet_server.mqtt.files import FileService

SIZE = 4096
CONTENT = bytes(range(256)) * 40  # 10,240 bytes: two whole blocks and a half one


class OneFile:
    """A repository of one file, served as metadata/one.json."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def file(self, path: str) -> Path:
        if path != "metadata/one.json":
            raise NotFound(f"no file {path!r}")
        return self._path


class Wire:
    """Collects what is sent, as it would go over the wire; may break after some messages."""

    def __init__(self, breaks_after: int = 1_000) -> None:
        self.sent: list[tuple[str, Block | Refusal]] = []
        self._left = breaks_after

    def send(self, device: str, answer: Block | Refusal) -> None:
        if self._left == 0:
            raise Offline("gone")
        self._left -= 1
        self.sent.append((device, messages.decode_to_device(messages.encode(answer))))


@pytest.fixture
def one_file(tmp_path: Path) -> OneFile:
    path = tmp_path / "one.json"
    path.write_bytes(CONTENT)
    return OneFile(path)


def want(*numbers: int, path: str = "metadata/one.json", block_bytes: int = SIZE, count: int = 2048) -> Want:
    return Want(request="r1", path=path, block_bytes=block_bytes, need=blocks.to_bitmap(numbers, count))


def answers(files: OneFile, request: Want) -> list[Block | Refusal]:
    wire = Wire()
    FileService(files, wire.send, Counts()).answer("cam-1", request)
    assert {device for device, _ in wire.sent} == {"cam-1"}
    return [answer for _, answer in wire.sent]


@pytest.mark.parametrize(
    ("request_", "indices"),
    [
        pytest.param(want(0), [0], id="first"),
        pytest.param(want(0, 2), [0, 2], id="first-and-short-last"),
        pytest.param(want(1, 2, 3, 2000), [1, 2], id="those-that-exist"),
        pytest.param(want(0, block_bytes=32 * 1024, count=1), [0], id="one-large-block"),
    ],
)
def test_wanted_blocks_are_sent_with_the_length_of_the_file(one_file: OneFile, request_: Want, indices: list[int]) -> None:
    size = request_.block_bytes
    expected = [Block(request="r1", index=i, length=len(CONTENT), data=CONTENT[i * size : (i + 1) * size]) for i in indices]
    assert answers(one_file, request_) == expected


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        pytest.param(want(0, path="metadata/two.json"), "not-found", id="no-such-file"),
        pytest.param(want(0, path="x" * 1_000), "not-found", id="an-endless-path"),
        pytest.param(want(), "bad-request", id="nothing-wanted"),
        pytest.param(want(3), "bad-request", id="beyond-the-end"),
        pytest.param(want(*range(limits.MAX_BLOCKS_PER_REQUEST + 1)), "too-large", id="too-many-blocks"),
        pytest.param(want(0, block_bytes=0), "bad-request", id="blocks-of-nothing"),
        pytest.param(want(0, block_bytes=limits.MIN_BLOCK_BYTES - 1), "bad-request", id="blocks-too-small"),
        pytest.param(want(0, block_bytes=limits.MAX_BLOCK_BYTES + 1), "bad-request", id="blocks-too-large"),
        pytest.param(Want(request="", path="metadata/one.json", block_bytes=SIZE, need=b"\x01"), "bad-request", id="no-request-id"),
        pytest.param(Want(request="r" * 50_000, path="x" * 9_000, block_bytes=SIZE, need=b"\x01"), "bad-request", id="endless-request-id"),
    ],
)
def test_request_that_cannot_be_answered_gets_one_refusal(one_file: OneFile, request_: Want, code: str) -> None:
    (answer,) = answers(one_file, request_)
    assert isinstance(answer, Refusal)
    assert answer.code == code


def test_largest_block_and_its_envelope_fit_in_a_message(tmp_path: Path) -> None:
    path = tmp_path / "large"
    path.write_bytes(bytes(limits.MAX_BLOCK_BYTES))
    (block,) = answers(OneFile(path), want(0, block_bytes=limits.MAX_BLOCK_BYTES, count=1))
    assert len(messages.encode(block)) <= limits.MAX_MESSAGE_BYTES


def test_broken_connection_ends_the_request_and_not_the_service(one_file: OneFile) -> None:
    wire = Wire(breaks_after=1)
    service = FileService(one_file, wire.send, Counts())
    with pytest.raises(Offline):
        service.answer("cam-1", want(0, 1, 2))
    assert len(wire.sent) == 1


def test_more_requests_than_fit_are_let_go_and_counted(one_file: OneFile) -> None:
    counts = Counts()
    service = FileService(one_file, Wire().send, counts)
    for _ in range(501):
        service.offer("cam-1", want(0))
    assert counts.snapshot()[Count.QUEUE_FULL] == 1
