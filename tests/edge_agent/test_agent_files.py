"""Reading small repository files over MQTT: bounded, asked again, and never for ever."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_agent.errors import Missing, Reject, Retry
from fleet_contract import limits
from fleet_contract.messages import FromDevice, Packet, Refusal
from tests.fakes.agent_downloads import Device, device

KIB = limits.KIB
BIG = bytes(range(256)) * 4 * 40
"""40 KiB: two blocks of metadata."""
LONG = bytes(33 * limits.MAX_BLOCK_BYTES)
"""More blocks than one request may ask for."""
FILES = {"metadata/timestamp.json": b"small", "metadata/big.json": BIG, "metadata/long.json": LONG, "empty": b""}


@pytest.fixture
def dev(tmp_path: Path) -> Iterator[Device]:
    with device("one to one", dict(FILES), tmp_path) as made:
        yield made


class TestRead:
    @pytest.mark.parametrize(
        ("path", "wants"),
        [
            pytest.param("metadata/timestamp.json", 1, id="one block"),
            pytest.param("metadata/big.json", 2, id="the first block tells how many more"),
            pytest.param("metadata/long.json", 2, id="at most so many a request"),
            pytest.param("empty", 1, id="nothing in it"),
        ],
    )
    def test_a_file_comes_whole(self, dev: Device, path: str, wants: int) -> None:
        assert dev.files.read(path, limits.MAX_METADATA_BYTES) == FILES[path]
        assert len(dev.service.requests) == wants

    def test_a_missing_file(self, dev: Device) -> None:
        with pytest.raises(Missing):
            dev.files.read("metadata/9.root.json", KIB)

    def test_another_refusal(self, dev: Device) -> None:
        dev.service.answer = lambda want: not dev.service.receive(Refusal(want.request, "bad-request", "odd bits"))
        with pytest.raises(Reject) as caught:
            dev.files.read("metadata/timestamp.json", KIB)
        assert caught.value.code == "bad-request"

    def test_a_file_that_is_too_large_is_not_read_on(self, dev: Device) -> None:
        with pytest.raises(Reject) as caught:
            dev.files.read("metadata/big.json", 10 * KIB)
        assert caught.value.code == "too-large"
        assert len(dev.service.requests) == 1

    def test_a_file_that_changes_meanwhile(self, dev: Device) -> None:
        def grow(want: FromDevice) -> bool:
            dev.service.files["metadata/big.json"] += b"more"
            return False

        dev.service.answer = grow
        with pytest.raises(Retry) as caught:
            dev.files.read("metadata/big.json", 100 * KIB)
        assert caught.value.code == "changed"

    def test_what_was_lost_is_asked_for_again_and_nothing_else(self, dev: Device) -> None:
        lost = {5, 9}
        dev.service.spoil = lambda number, data: None if number in lost and not lost.discard(number) else data
        dev.files.read("metadata/long.json", limits.MAX_METADATA_BYTES)
        assert sorted(dev.service.asked) == sorted([*range(33), 5, 9])


class TestNothingComes:
    def test_silence_ends_in_a_retry(self, dev: Device) -> None:
        dev.service.answer = lambda message: True
        with pytest.raises(Retry) as caught:
            dev.files.read("metadata/timestamp.json", KIB)
        assert caught.value.code == "deadline"
        assert len(dev.service.requests) == 3

    def test_a_drip_of_packets_ends_at_the_deadline(self, dev: Device) -> None:
        """Each comes before the silence would be too long, none is the one that is waited for."""

        def drip(want: FromDevice) -> bool:
            for number in range(60):
                dev.service.receive(
                    Packet(want.request, number, len(LONG), limits.MAX_BLOCK_BYTES, [40], "none", bytes(limits.MAX_BLOCK_BYTES))
                )
            return True

        dev.service.answer = drip
        dev.clock.step_s = 0.1
        with pytest.raises(Retry):
            dev.files.read("metadata/long.json", limits.MAX_METADATA_BYTES)

    def test_no_connection(self, dev: Device) -> None:
        dev.link.connected = False
        with pytest.raises(Retry):
            dev.files.read("metadata/timestamp.json", KIB)

    def test_the_connection_goes_meanwhile(self, dev: Device) -> None:
        dev.link.on_send = lambda want: setattr(dev.link, "connected", False)
        with pytest.raises(Retry) as caught:
            dev.files.read("metadata/timestamp.json", KIB)
        assert caught.value.code == "offline"

    def test_the_agent_ends_meanwhile(self, dev: Device) -> None:
        dev.link.on_send = lambda want: dev.exchange.close()
        with pytest.raises(Retry):
            dev.files.read("metadata/timestamp.json", KIB)
