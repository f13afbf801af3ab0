"""Reading repository files over MQTT: bounded, asked again, and never for ever."""

import itertools
from collections.abc import Callable

import pytest

from edge_agent.errors import Missing, Reject, Retry
from edge_agent.link.files import MqttFiles, Patience
from fleet_contract import limits
from fleet_contract.blocks import from_bitmap
from fleet_contract.messages import Block, FromDevice, Refusal, Want
from tests.fakes.agent_run_world import FakeClock
from tests.fakes.agent_world import FakeLink

KIB = limits.KIB
BIG = bytes(range(256)) * 4 * 40
"""40 KiB: two blocks of metadata, ten of 4 KiB."""


class Repository:
    """The far end: answers each Want at once. `lose` says which blocks get lost on the way, the first time round."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files = files
        self.wants: list[Want] = []
        self.lose: Callable[[int], bool] = lambda index: False
        self.receive: Callable[[Block | Refusal], None] = lambda message: None

    def answer(self, message: FromDevice) -> None:
        assert isinstance(message, Want)
        self.wants.append(message)
        data = self.files.get(message.path)
        if data is None:
            self.receive(Refusal(message.request, "not-found", "no such file"))
            return
        size = message.block_bytes
        for index in from_bitmap(message.need):
            if index * size < max(1, len(data)) and not self.lose(index):
                self.receive(Block(message.request, index, len(data), data[index * size : (index + 1) * size]))


class World:
    def __init__(self, files: dict[str, bytes]) -> None:
        self.link, self.repository = FakeLink(), Repository(files)
        ids = itertools.count()
        self.clock = FakeClock(step_s=0.01)
        patience = Patience(silence_s=0.05, silences=3, file_s=5.0)
        self.files = MqttFiles(self.link, self.clock, new_id=lambda: f"r{next(ids)}", patience=patience)
        self.link.on_send = self.repository.answer
        self.repository.receive = self.files.receive


@pytest.fixture
def world() -> World:
    return World({"metadata/timestamp.json": b"small", "metadata/big.json": BIG, "empty": b"", "targets/x": bytes(4 * KIB * 70)})


class TestRead:
    @pytest.mark.parametrize(
        ("path", "data", "wants"),
        [
            pytest.param("metadata/timestamp.json", b"small", 1, id="one block"),
            pytest.param("metadata/big.json", BIG, 2, id="the first block tells how many more"),
            pytest.param("empty", b"", 1, id="nothing in it"),
        ],
    )
    def test_a_file_comes_whole(self, world: World, path: str, data: bytes, wants: int) -> None:
        assert world.files.read(path, 100 * KIB) == data
        assert len(world.repository.wants) == wants

    def test_a_missing_file(self, world: World) -> None:
        with pytest.raises(Missing):
            world.files.read("metadata/9.root.json", KIB)

    def test_another_refusal(self, world: World) -> None:
        world.link.on_send = lambda want: world.files.receive(Refusal(want.request, "bad-request", "odd bits"))
        with pytest.raises(Reject) as caught:
            world.files.read("metadata/timestamp.json", KIB)
        assert caught.value.code == "bad-request"

    def test_a_file_that_is_too_large_is_not_read_on(self, world: World) -> None:
        with pytest.raises(Reject) as caught:
            world.files.read("metadata/big.json", 10 * KIB)
        assert caught.value.code == "too-large"
        assert len(world.repository.wants) == 1

    def test_a_file_that_changes_meanwhile(self, world: World) -> None:
        def grow(want: FromDevice) -> None:
            world.repository.answer(want)
            world.repository.files["metadata/big.json"] = BIG + b"more"

        world.link.on_send = grow
        with pytest.raises(Retry) as caught:
            world.files.read("metadata/big.json", 100 * KIB)
        assert caught.value.code == "changed"


class TestBlocks:
    def test_at_most_so_many_a_request_and_one_request_at_a_time(self, world: World) -> None:
        got = dict(world.files.blocks("targets/x", 4 * KIB, range(70)))
        assert sorted(got) == list(range(70))
        assert [len(from_bitmap(want.need)) for want in world.repository.wants] == [32, 32, 6]

    def test_only_what_is_needed(self, world: World) -> None:
        assert sorted(index for index, _ in world.files.blocks("targets/x", 4 * KIB, [3, 69, 7])) == [3, 7, 69]

    def test_what_was_lost_is_asked_for_again_and_nothing_else(self, world: World) -> None:
        lost = {5, 9}
        world.repository.lose = lambda index: index in lost and not lost.discard(index)
        got = [index for index, _ in world.files.blocks("targets/x", 4 * KIB, range(12))]
        assert sorted(got) == list(range(12))
        assert from_bitmap(world.repository.wants[1].need) == [5, 9]

    def test_silence_ends_in_a_retry(self, world: World) -> None:
        world.repository.lose = lambda index: True
        with pytest.raises(Retry) as caught:
            list(world.files.blocks("targets/x", 4 * KIB, [1]))
        assert caught.value.code == "deadline"
        assert len(world.repository.wants) == 3

    def test_late_and_unasked_blocks_are_dropped(self, world: World) -> None:
        def noisy(want: FromDevice) -> None:
            world.files.receive(Block("nobody", 0, 10, b"x"))
            world.files.receive(Block(want.request, 55, 10, b"unasked"))
            world.repository.answer(want)
            world.repository.answer(want)

        world.link.on_send = noisy
        assert [index for index, _ in world.files.blocks("targets/x", 4 * KIB, [0, 1])] == [0, 1]


class TestOffline:
    def test_no_connection(self, world: World) -> None:
        world.link.connected = False
        with pytest.raises(Retry):
            world.files.read("metadata/timestamp.json", KIB)

    def test_the_connection_goes_meanwhile(self, world: World) -> None:
        world.link.on_send = lambda want: setattr(world.link, "connected", False)
        with pytest.raises(Retry) as caught:
            world.files.read("metadata/timestamp.json", KIB)
        assert caught.value.code == "offline"

    def test_the_agent_ends_meanwhile(self, world: World) -> None:
        world.link.on_send = lambda want: world.files.close()
        with pytest.raises(Retry):
            world.files.read("metadata/timestamp.json", KIB)
