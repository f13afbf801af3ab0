"""What every way of bringing blocks must do, whatever the far end does: the same tests for requests one to one, shared passes and HTTPS."""

import random
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from edge_agent.delivery.downloads import ways
from edge_agent.delivery.one_to_one import resized
from edge_agent.delivery.pace import Manners
from edge_agent.delivery.ports import Wish
from edge_agent.errors import Reject, Retry
from fleet_contract import limits, topics
from fleet_contract.blocks import from_bitmap
from fleet_contract.messages import FromDevice, Packet, Progress, Refusal, Want
from tests.fakes.agent_downloads import WAYS, Device, device, target_of
from tests.fakes.agent_file_service import Website, by_range

BLOCK_BYTES = limits.MIN_BLOCK_BYTES
FILE = random.Random(1).randbytes(100 * BLOCK_BYTES + 17)
TARGET = target_of(FILE)
FILES = {TARGET.fetch_path: FILE}
ALL = list(range(TARGET.index.count))


@pytest.fixture(params=WAYS)
def dev(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Device]:
    with device(request.param, dict(FILES), tmp_path) as made:
        yield made


def spoil(dev: Device, change: Callable[[int, bytes], bytes | None]) -> None:
    """Blocks come changed, or not at all, whichever way they come."""
    dev.service.spoil = change

    def website(request: Website, data: bytes, first: int, last: int) -> None:
        blocks = {n: data[n * BLOCK_BYTES : (n + 1) * BLOCK_BYTES] for n in range(first // BLOCK_BYTES, last // BLOCK_BYTES + 1)}
        body = b"".join(change(n, block) or bytes(len(block)) for n, block in blocks.items())
        by_range(request, data[:first] + body + data[last + 1 :], first, last)

    dev.service.website = website


def once(numbers: set[int], change: Callable[[bytes], bytes | None]) -> Callable[[int, bytes], bytes | None]:
    """These blocks are changed the first time that they are asked for."""
    left = set(numbers)
    return lambda number, data: change(data) if number in left and not left.discard(number) else data


class TestWhole:
    def test_a_file_comes_whole_and_each_block_is_asked_for_once(self, dev: Device) -> None:
        done = dev.bring(TARGET)
        assert (dev.part.read_bytes(), done.fetched_bytes, done.reused_bytes) == (FILE, len(FILE), 0)
        assert sorted(dev.asked(TARGET)) == ALL

    def test_a_file_that_is_here_is_not_asked_for(self, dev: Device) -> None:
        dev.part.write_bytes(FILE)
        assert dev.bring(TARGET).way == "nothing"
        assert dev.service.requests == []

    def test_only_what_is_lacking_is_asked_for(self, dev: Device) -> None:
        lacking = [0, 7, 40, 100]
        held = bytearray(FILE)
        for number in lacking:
            held[number * BLOCK_BYTES] ^= 1
        dev.part.write_bytes(held)
        done = dev.bring(TARGET)
        assert (dev.part.read_bytes(), sorted(dev.asked(TARGET))) == (FILE, lacking)
        assert done.reused_bytes == len(FILE) - done.fetched_bytes == 97 * BLOCK_BYTES

    @pytest.mark.parametrize("length", [0, 1, BLOCK_BYTES, BLOCK_BYTES + 1], ids=["nothing", "a byte", "a block", "a block and a byte"])
    def test_every_length(self, dev: Device, length: int) -> None:
        target = target_of(FILE[:length])
        dev.service.files[target.fetch_path] = FILE[:length]
        dev.bring(target)
        assert dev.part.read_bytes() == FILE[:length]

    def test_progress_is_told_while_it_runs(self, dev: Device) -> None:
        seen = []
        dev.bring(TARGET, wanted=lambda: not seen.append(dev.downloads.download))
        told = [download.done_bytes for download in seen if download]
        assert told == sorted(told) and told[-1] > len(FILE) // 2
        assert dev.downloads.download is None


class TestFaults:
    @pytest.mark.parametrize(
        "change", [pytest.param(lambda data: b"\0" * len(data), id="wrong"), pytest.param(lambda data: None, id="lost")]
    )
    def test_what_came_wrong_or_not_is_asked_for_again_and_nothing_else(self, dev: Device, change: Callable) -> None:
        spoil(dev, once({3, 50, 100}, change))
        dev.bring(TARGET)
        assert dev.part.read_bytes() == FILE
        assert sorted(dev.asked(TARGET)) == sorted([*ALL, 3, 50, 100])

    @pytest.mark.parametrize(
        "change", [pytest.param(lambda data: b"\0" * len(data), id="wrong"), pytest.param(lambda data: None, id="lost")]
    )
    def test_what_never_comes_right_ends_in_a_retry(self, dev: Device, change: Callable) -> None:
        spoil(dev, lambda number, data: change(data) if number == 99 else data)
        with pytest.raises(Retry):
            dev.bring(TARGET)
        assert dev.present(TARGET) == {*ALL} - {99}
        assert dev.asked(TARGET).count(99) <= 10

    def test_a_download_goes_on_where_it_was_cut_off(self, dev: Device) -> None:
        left = iter(range(60))
        with pytest.raises(Retry) as caught:
            dev.bring(TARGET, wanted=lambda: next(left, None) is not None)
        assert caught.value.code == "superseded"
        present = dev.present(TARGET)
        dev.forget_asked()
        dev.bring(TARGET)
        assert present and not present & {*dev.asked(TARGET)}
        assert dev.part.read_bytes() == FILE

    def test_an_order_that_is_gone_before_it_begins_costs_nothing(self, dev: Device) -> None:
        with pytest.raises(Retry, match="another order"):
            dev.bring(TARGET, wanted=lambda: False)
        assert dev.service.requests == []

    def test_the_agent_ends_meanwhile(self, dev: Device) -> None:
        with pytest.raises(Retry) as caught:
            dev.bring(TARGET, wanted=lambda: dev.downloads.close() or True)
        assert caught.value.code == "closing"

    def test_without_a_connection(self, dev: Device) -> None:
        dev.link.connected = False
        with pytest.raises(Retry):
            dev.bring(TARGET)

    @pytest.mark.parametrize("code", ["not-found", "bad-request", "quarantined", "no-http", "pass-left", "x" * 500])
    def test_a_refusal_only_delays_because_anybody_on_the_way_can_forge_one(self, dev: Device, code: str) -> None:
        dev.service.answer = lambda message: (
            isinstance(message, Progress) or not dev.service.receive(Refusal(message.request, code, "no" * 10_000))
        )
        with pytest.raises(Retry):
            dev.bring(TARGET)
        assert len(dev.service.requests) <= 5

    def test_endless_silence(self, dev: Device) -> None:
        dev.service.answer = lambda message: True
        with pytest.raises(Retry):
            dev.bring(TARGET)
        assert len(dev.service.requests) <= 5

    def test_a_whole_that_is_not_what_its_blocks_say_is_rejected(self, dev: Device) -> None:
        """Index and digest are signed together: no server and no retry can mend it."""
        lie = target_of(FILE)
        lie = type(lie)(lie.path, "0" * 64, lie.length, lie.index)
        dev.service.files[lie.fetch_path] = FILE
        with pytest.raises(Reject) as caught:
            dev.bring(lie)
        assert caught.value.code == "bad-blocks"


class TestManners:
    def test_a_slow_device_asks_for_a_second_at_once_and_alone(self, tmp_path: Path) -> None:
        with device("shared", FILES, tmp_path, manners=Manners(rate_bytes_per_s=1 << 22, metered=True)) as dev:
            dev.bring(TARGET)
            assert not any(isinstance(message, Want) and message.shared is True for message in dev.service.requests)

    def test_requests_wait_while_records_do(self, dev: Device) -> None:
        busy = iter([True])
        dev.busy = lambda: next(busy, False)
        dev.bring(TARGET)
        assert next(busy, "asked") == "asked"

    @pytest.mark.parametrize(
        ("setting", "ordered", "metered", "tried"),
        [
            pytest.param("auto", None, False, ["pass", "one", "http"], id="nobody says"),
            pytest.param("auto", "mqtt", False, ["pass", "one", "http"], id="the order says MQTT"),
            pytest.param("auto", "http", False, ["http", "pass", "one"], id="the order says HTTP"),
            pytest.param("mqtt", "http", False, ["pass", "one"], id="the owner says MQTT"),
            pytest.param("http", "mqtt", False, ["http", "pass", "one"], id="the owner says HTTP"),
            pytest.param("auto", None, True, ["one", "http"], id="metered"),
            pytest.param("http", None, True, ["http", "one"], id="metered, HTTP"),
        ],
    )
    def test_which_way_is_tried_when(self, setting: str, ordered: str | None, metered: bool, tried: list[str]) -> None:
        class Named:
            shared, one_to_one, http = "pass", "one", "http"

        assert ways(Manners(transport=setting, metered=metered), Named, Wish(ordered)) == tried


class TestSharedPass:
    @pytest.fixture
    def dev(self, tmp_path: Path) -> Iterator[Device]:
        with device("shared", dict(FILES), tmp_path) as made:
            yield made

    def test_it_listens_before_it_asks_and_leaves_afterwards(self, dev: Device) -> None:
        heard = []
        dev.service.answer = lambda message: bool(heard.extend(dev.link.subscribed))
        dev.bring(TARGET)
        assert heard[0] == topics.shared(TARGET.fetch_path, BLOCK_BYTES)
        assert dev.link.subscribed == []

    def test_one_request_and_credit_for_every_sixth_packet(self, dev: Device) -> None:
        large = FILE * 3
        target = target_of(large, block_bytes=BLOCK_BYTES)
        dev.service.files[target.fetch_path] = large
        dev.bring(target)
        shared, *rest = dev.service.requests
        assert isinstance(shared, Want) and from_bitmap(shared.need) == list(range(target.index.count))
        assert rest == [Progress("pass", 5), Progress("pass", 11), Progress("pass", 17)]

    def test_nothing_more_comes_while_records_wait(self, dev: Device) -> None:
        large = FILE * 3
        target = target_of(large, block_bytes=BLOCK_BYTES)
        dev.service.files[target.fetch_path] = large
        behind = iter([True] * 12)
        dev.busy = lambda: len(dev.service.requests) == 1 and next(behind, False)
        dev.bring(target)
        assert dev.part.read_bytes() == large
        assert dev.service.requests[1:] == [Progress("pass", 11), Progress("pass", 17)]

    def test_who_is_too_slow_for_it_goes_on_alone(self, dev: Device) -> None:
        def send_away(message: FromDevice) -> bool:
            if not (isinstance(message, Want) and message.shared is True):
                return False
            dev.service.receive(Refusal(message.request, "pass-left", "too slow"))
            return True

        dev.service.answer = send_away
        dev.bring(TARGET)
        assert dev.part.read_bytes() == FILE
        assert [len(from_bitmap(want.need)) for want in alone(dev)] == [8, 16, 32, 32, 13]

    def test_packets_for_others_keep_it_listening(self, dev: Device) -> None:
        """The pass was begun by a device that lacks all; this one waits for the last ten."""
        dev.part.write_bytes(FILE[: 90 * BLOCK_BYTES] + bytes(10 * BLOCK_BYTES + 17))
        asks = dev.service.take
        dev.link.on_send = lambda sent: asks(msgspec.structs.replace(sent, need=b"\xff" * 13) if isinstance(sent, Want) else sent)
        dev.bring(TARGET)
        assert dev.part.read_bytes() == FILE
        assert [type(message) for message in dev.service.requests] == [Want, Progress]


def alone(dev: Device) -> list[Want]:
    return [message for message in dev.service.requests if isinstance(message, Want) and message.shared is not True]


@pytest.mark.parametrize(
    ("at_once", "took_s", "next_one"),
    [
        pytest.param(8, 0.1, 16, id="quick"),
        pytest.param(32, 0.1, 32, id="as many as may be"),
        pytest.param(8, 1.0, 8, id="just right"),
        pytest.param(8, 2.5, 4, id="slow"),
        pytest.param(1, 9.0, 1, id="a block at least"),
    ],
)
def test_an_answer_takes_about_a_second_because_acknowledgements_come_behind_it(at_once: int, took_s: float, next_one: int) -> None:
    assert resized(at_once, took_s, 32) == next_one


def packet(request: str, **changes: object) -> Packet:
    fields = {"sequence": 0, "length": len(FILE), "block_bytes": BLOCK_BYTES, "numbers": [0], "codec": "none", "data": bytes(BLOCK_BYTES)}
    return Packet(request, **{**fields, **changes})


@pytest.mark.parametrize("way", ["one to one", "shared"])
@pytest.mark.parametrize(
    "noise",
    [
        pytest.param({"request": "nobody"}, id="of another request"),
        pytest.param({"numbers": [2**53]}, id="a number out of range"),
        pytest.param({"numbers": []}, id="no blocks"),
        pytest.param({"numbers": [0] * 1_000}, id="too many blocks"),
        pytest.param({"numbers": [55, 56], "data": bytes(2 * BLOCK_BYTES)}, id="wrong bytes"),
        pytest.param({"block_bytes": 8192}, id="another grid"),
        pytest.param({"length": 2**53}, id="an endless file"),
        pytest.param({"length": 0}, id="an empty file"),
        pytest.param({"data": b"short"}, id="short"),
        pytest.param({"codec": "zstd", "data": b"no zstd"}, id="not compressed"),
        pytest.param({"codec": "zstd", "data": bytes.fromhex("28b52ffd") + b"\xff" * 60_000}, id="a bomb"),
    ],
)
def test_noise_between_the_packets_changes_nothing(way: str, noise: dict, tmp_path: Path) -> None:
    with device(way, FILES, tmp_path) as dev:

        def disturb(message: FromDevice) -> bool:
            bad = packet(**{"request": message.request, **noise})
            for _ in range(3 if message is dev.service.requests[0] else 0):
                dev.service.receive(bad)
                dev.service.receive_shared(topics.shared(TARGET.fetch_path, BLOCK_BYTES), bad)
            return False

        dev.service.answer = disturb
        dev.bring(TARGET)
        assert dev.part.read_bytes() == FILE


@pytest.mark.parametrize("way", ["one to one", "shared"])
def test_endless_packets_of_nothing_useful_end_in_a_retry(way: str, tmp_path: Path) -> None:
    with device(way, FILES, tmp_path) as dev:
        flood = packet("", numbers=[1], data=FILE[BLOCK_BYTES : 2 * BLOCK_BYTES])
        dev.part.write_bytes(bytes(BLOCK_BYTES) + FILE[BLOCK_BYTES:])
        dev.service.answer = lambda message: True

        def refill(topic: str = topics.shared(TARGET.fetch_path, BLOCK_BYTES)) -> bool:
            for message in dev.service.requests[-1:]:
                dev.service.receive(Packet(message.request, *[getattr(flood, name) for name in flood.__struct_fields__[1:]]))
            dev.service.receive_shared(topic, flood)
            dev.clock.elapsed_s += 1.0
            return True

        with pytest.raises(Retry):
            dev.bring(TARGET, wanted=refill)
