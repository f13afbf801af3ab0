"""Serving files over MQTT: which blocks are sent, one to one and for all, and how a request is refused."""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pytest

from fleet_contract import blocks, limits, messages, packets, topics
from fleet_contract.messages import Message, Packet, Progress, Refusal, Url, Want, WantUrl
from fleet_contract.mqtt import Offline
from fleet_server.errors import NotFound
from fleet_server.mqtt.counts import Count, Counts
from fleet_server.mqtt.files import FileService
from fleet_server.mqtt.passes import PassRules

SIZE = 4096
CONTENT = bytes(range(256)) * 40  # 10,240 bytes: two whole blocks and a half one
PATIENCE_S = 15.0
AT_ONCE = PassRules(gather_s=0.0)


@dataclass
class Folder:
    """A repository: any file of a folder."""

    folder: Path

    def file(self, path: str) -> Path:
        found = self.folder / path
        if len(path) > limits.MAX_PATH_CHARS or not found.is_file():
            raise NotFound(f"no file {path!r}")
        return found

    def add(self, path: str, content: bytes) -> None:
        (self.folder / path).parent.mkdir(exist_ok=True)
        (self.folder / path).write_bytes(content)


class Taken:
    def taken(self, timeout_s: float = 0.0) -> bool:
        return True


@dataclass
class Wire:
    """Collects what is sent, as it would go over the wire; may break after some messages."""

    breaks_after: int = 1_000
    sent: list[tuple[str, Message]] = field(default_factory=list)
    changed: threading.Condition = field(default_factory=threading.Condition)
    connected: bool = True

    def send_answer(self, device: str, answer: Packet | Url | Refusal) -> Taken:
        if len(self.sent) == self.breaks_after:
            raise Offline("gone")
        with self.changed:
            self.sent.append((device, messages.decode_to_device(messages.encode(answer))))
            self.changed.notify_all()
        return Taken()

    def send_shared(self, topic: str, packet: Packet) -> tuple[Taken, int]:
        return self.send_answer(topic, packet), len(packet.data)

    def until(self, enough: Callable[[list], bool]) -> None:
        with self.changed:
            assert self.changed.wait_for(lambda: enough(self.sent), PATIENCE_S), "that was never sent"


@pytest.fixture
def files(tmp_path: Path) -> Folder:
    found = Folder(tmp_path)
    found.add("metadata/one.json", CONTENT)
    found.add("targets/model", os.urandom(100 * SIZE))
    return found


def want(*numbers: int, path: str = "metadata/one.json", block_bytes: int = SIZE, count: int = 2048, **more) -> Want:
    return Want(request="r1", path=path, block_bytes=block_bytes, need=blocks.to_bitmap(numbers, count), **more)


def shared(*numbers: int, path: str = "targets/model", block_bytes: int = SIZE) -> Want:
    return want(*numbers, path=path, block_bytes=block_bytes, shared=True)


def answers(files: Folder, request: Want | WantUrl, **options) -> list[Message]:
    wire = Wire()
    FileService(files, wire, Counts(), **options).answer("cam-1", request)
    assert {device for device, _ in wire.sent} == {"cam-1"}
    return [answer for _, answer in wire.sent]


def opened(sent: list[Message], block_bytes: int = SIZE) -> dict[int, bytes]:
    return {number: data for packet in sent for number, data in packets.unpack(packet, block_bytes)}


@contextmanager
def running(files: Folder, rules: PassRules = AT_ONCE, **options) -> Iterator[tuple[FileService, Wire, Counts]]:
    wire, counts = Wire(), Counts()
    service = FileService(files, wire, counts, rules=rules, **options)
    service.start()
    try:
        yield service, wire, counts
    finally:
        service.close()


@pytest.mark.parametrize(
    ("request_", "indices"),
    [
        pytest.param(want(0), [0], id="first"),
        pytest.param(want(0, 2), [0, 2], id="first-and-short-last"),
        pytest.param(want(1, 2, 3, 2000), [1, 2], id="those-that-exist"),
        pytest.param(want(0, block_bytes=32 * 1024, count=1), [0], id="one-large-block"),
        pytest.param(want(*range(32), path="targets/model"), [*range(32)], id="as-many-as-may-be"),
    ],
)
def test_wanted_blocks_are_sent_with_the_length_of_the_file(files: Folder, request_: Want, indices: list[int]) -> None:
    size, content = request_.block_bytes, files.file(request_.path).read_bytes()
    sent = answers(files, request_)
    assert {(answer.request, answer.length) for answer in sent} == {("r1", len(content))}
    assert opened(sent, size) == {i: content[i * size : (i + 1) * size] for i in indices}


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
        pytest.param(WantUrl(request="r1", path="metadata/one.json"), "no-http", id="an-address-where-there-is-none"),
        pytest.param(WantUrl(request="", path="metadata/one.json"), "bad-request", id="an-address-for-nobody"),
    ],
)
def test_request_that_cannot_be_answered_gets_one_refusal(files: Folder, request_: Want | WantUrl, code: str) -> None:
    (answer,) = answers(files, request_)
    assert isinstance(answer, Refusal)
    assert answer.code == code


def test_what_a_quarantined_device_asks_for_is_refused(files: Folder) -> None:
    with running(files, may=lambda device: device != "cam-1") as (service, wire, _):
        for request in (want(0), shared(0), WantUrl(request="r1", path="targets/model")):
            service.offer("cam-1", request)
        wire.until(lambda sent: len(sent) == 3)
    assert {answer.code for _, answer in wire.sent} == {"quarantined"}


@pytest.mark.parametrize("content", [bytes(32 * limits.KIB), os.urandom(32 * limits.KIB)], ids=["all-zero", "incompressible"])
def test_largest_block_and_its_envelope_fit_in_a_message(tmp_path: Path, content: bytes) -> None:
    files = Folder(tmp_path)
    files.add("targets/large", content)
    (packet,) = answers(files, want(0, path="targets/large", block_bytes=limits.MAX_BLOCK_BYTES, count=1))
    assert len(messages.encode(packet)) <= limits.MAX_MESSAGE_BYTES


def test_metadata_is_read_once_for_all_until_it_changes(files: Folder) -> None:
    wire = Wire()
    service = FileService(files, wire, Counts())
    path = files.file("metadata/one.json")
    service.answer("cam-1", want(0))
    stat = path.stat()
    with path.open("r+b") as file:  # unseen, for the time and size stay
        file.write(b"other")
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    service.answer("cam-2", want(0))
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    service.answer("cam-3", want(0))
    first, second, third = (opened([answer])[0] for _, answer in wire.sent)
    assert first == second == CONTENT[:SIZE]
    assert third.startswith(b"other")


def test_broken_connection_ends_the_request_and_not_the_service(files: Folder) -> None:
    wire = Wire(breaks_after=1)
    service = FileService(files, wire, Counts())
    with pytest.raises(Offline):
        service.answer("cam-1", want(*range(32), path="targets/model"))
    assert len(wire.sent) == 1


def test_one_device_cannot_take_every_place(files: Folder) -> None:
    counts = Counts()
    service = FileService(files, Wire(), counts)
    for _ in range(500):
        service.offer("greedy", want(0))
    refused = counts.snapshot()[Count.QUEUE_FULL]
    assert refused > 400
    service.offer("modest", want(0))
    assert counts.snapshot()[Count.QUEUE_FULL] == refused


def test_more_requests_than_fit_are_let_go_and_counted(files: Folder) -> None:
    counts = Counts()
    service = FileService(files, Wire(), counts)
    for number in range(501):
        service.offer(f"cam-{number}", want(0))
    assert counts.snapshot()[Count.QUEUE_FULL] == 1


def test_a_pass_goes_once_to_the_shared_topic(files: Folder) -> None:
    with running(files, PassRules(gather_s=0.2)) as (service, wire, counts):
        service.offer("cam-1", shared(*range(60)))
        service.offer("cam-2", shared(*range(40, 100)))
        wire.until(lambda sent: len(opened([packet for _, packet in sent])) == 100)
    assert {topic for topic, _ in wire.sent} == {topics.shared("targets/model", SIZE)}
    sent = [packet for _, packet in wire.sent]
    assert len({packet.request for packet in sent}) == 1
    assert [packet.sequence for packet in sent] == [*range(len(sent))]
    assert b"".join(data for _, data in sorted(opened(sent).items())) == files.file("targets/model").read_bytes()
    assert counts.snapshot()[Count.SHARED_BLOCKS] == 100


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        pytest.param(shared(0, path="targets/none"), "not-found", id="no-such-file"),
        pytest.param(shared(0, path="metadata/one.json"), "bad-request", id="metadata"),
        pytest.param(shared(0, block_bytes=2 * SIZE), "bad-request", id="another-grid"),
        pytest.param(shared(0, block_bytes=1), "bad-request", id="blocks-too-small"),
        pytest.param(shared(), "bad-request", id="nothing-wanted"),
        pytest.param(shared(100, 2_047), "bad-request", id="beyond-the-end"),
        pytest.param(Want("r" * 9_000, "targets/model", SIZE, b"\xff" * 50_000, shared=True), "bad-request", id="endless-request-id"),
    ],
)
def test_a_pass_that_cannot_be_joined_is_refused(files: Folder, request_: Want, code: str) -> None:
    with running(files) as (service, wire, _):
        service.offer("cam-1", request_)
        wire.until(lambda sent: len(sent) == 1)
    ((device, answer),) = wire.sent
    assert (device, answer.code, len(answer.request) <= 64) == ("cam-1", code, True)


def test_need_beyond_the_end_of_the_file_adds_nothing(files: Folder) -> None:
    with running(files) as (service, wire, _):
        service.offer("cam-1", Want("r1", "targets/model", SIZE, b"\xff" * 50_000, shared=True))
        wire.until(lambda sent: len(opened([packet for _, packet in sent])) == 100)
    assert max(opened([packet for _, packet in wire.sent])) == 99


def test_a_silent_member_is_told_and_the_pass_goes_on(tmp_path: Path) -> None:
    files = Folder(tmp_path)
    count = 2 * limits.MAX_AHEAD_PACKETS * limits.MAX_BLOCKS_PER_PACKET
    files.add("targets/model", bytes(count * SIZE))
    with running(files, PassRules(gather_s=0.2, patience_s=0.5)) as (service, wire, counts):
        service.offer("quick", Want("q", "targets/model", SIZE, blocks.to_bitmap(range(count), count), shared=True))
        service.offer("silent", Want("s", "targets/model", SIZE, blocks.to_bitmap(range(count), count), shared=True))
        wire.until(lambda sent: len(sent) == limits.MAX_AHEAD_PACKETS)
        first = wire.sent[0][1]
        service.offer("quick", Progress(request=first.request, sequence=limits.MAX_AHEAD_PACKETS - 1))
        wire.until(lambda sent: len(sent) > limits.MAX_AHEAD_PACKETS)
    ((device, refusal),) = [(device, answer) for device, answer in wire.sent if isinstance(answer, Refusal)]
    assert (device, refusal.request, refusal.code) == ("silent", "s", "pass-left")
    assert counts.snapshot()[Count.PASSES_LEFT] == 1


def test_an_address_is_for_the_device_that_asked(files: Folder) -> None:
    until = datetime(2027, 1, 1, tzinfo=UTC)

    class Addresses:
        def url(self, device: str, path: str) -> tuple[str, datetime]:
            return f"https://fleet/{device}/{path}", until

    (answer,) = answers(files, WantUrl(request="r1", path="targets/model"), addresses=Addresses())
    assert answer == Url("r1", "https://fleet/cam-1/targets/model", until)
    (refusal,) = answers(files, WantUrl(request="r1", path="targets/none"), addresses=Addresses())
    assert refusal.code == "not-found"
