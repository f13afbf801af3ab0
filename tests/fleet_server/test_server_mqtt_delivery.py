"""Shared passes over real brokers, with real sessions on both ends."""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from fleet_contract import blocks, limits
from fleet_server.errors import NotFound
from fleet_server.mqtt.counts import Count, Counts
from fleet_server.mqtt.files import FileService
from fleet_server.mqtt.link import FleetLink
from fleet_server.mqtt.passes import PassRules
from tests.fakes.server_broker import KINDS, PATIENCE_S, Place, new_place
from tests.fakes.server_member import Member

PATH = "targets/model"
CONTENT = os.urandom(4 * limits.MIB)
SIZE = blocks.block_bytes_for(len(CONTENT))
COUNT = -(-len(CONTENT) // SIZE)
RULES = PassRules(gather_s=0.3, patience_s=1.0)


class OneFile:
    def __init__(self, folder: Path) -> None:
        self._file = folder / "model"
        self._file.write_bytes(CONTENT)

    def file(self, path: str) -> Path:
        if path != PATH:
            raise NotFound(f"no file {path!r}")
        return self._file


@dataclass
class Fleet:
    """A file service on a real broker, and the devices that come to it."""

    place: Place
    link: FleetLink
    service: FileService
    stack: ExitStack

    def member(self, name: str, **options) -> Member:
        member = Member(self.place, name, PATH, SIZE, COUNT, **options)
        self.stack.callback(member.close)
        return member

    def count(self, count: Count) -> int:
        return self.link.counts.snapshot()[count]


@pytest.fixture(scope="module", params=KINDS)
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    made = new_place(request.param, tmp_path_factory.mktemp(request.param))
    made.child.start()
    yield made
    made.child.close()


@pytest.fixture
def serve(place: Place, tmp_path: Path) -> Iterator[Callable[..., Fleet]]:
    with ExitStack() as stack:

        def start(rules: PassRules = RULES) -> Fleet:
            link = FleetLink(Counts())
            stack.callback(link.close)
            service = FileService(OneFile(tmp_path), link, link.counts, rules=rules)
            stack.callback(service.close)
            service.start()
            link.hand_to(lambda *_: None, service.offer)
            link.start(place.url, place.server, lambda: None)
            assert link.wait_connected(PATIENCE_S)
            return Fleet(place, link, service, stack)

        yield start


def whole(member: Member) -> bool:
    return len(member.have) == COUNT


def test_every_device_gets_the_file_and_the_server_sends_it_once(serve) -> None:
    fleet = serve()
    members = [fleet.member(f"cam-{number}") for number in range(3)]
    for member in members:
        member.want()
    for member in members:
        member.until(whole)
        assert member.content() == CONTENT
    assert fleet.count(Count.SHARED_BLOCKS) == COUNT
    assert fleet.link.bytes_in_out[1] < 1.1 * len(CONTENT)


def test_orders_overtake_a_pass(serve) -> None:
    fleet = serve()
    busy, other = fleet.member("busy"), fleet.member("other")
    busy.want()
    busy.until(lambda member: member.packets > 0)
    fleet.link.publish_orders({"other": b"order"})
    other.until(lambda member: member.orders)
    assert len(busy.have) < COUNT
    busy.until(whole)


def test_a_silent_device_is_let_go_and_the_others_get_everything(serve) -> None:
    fleet = serve()
    quick, silent = fleet.member("quick"), fleet.member("silent", reports=False)
    silent.want()
    quick.want()
    quick.until(whole)
    silent.until(lambda member: member.refusals)
    assert [(refusal.request, refusal.code) for refusal in silent.refusals] == [("want of silent", "pass-left")]
    assert quick.refusals == []


def test_a_device_that_vanishes_holds_the_others_up_only_for_a_while(serve) -> None:
    fleet = serve()
    quick, gone = fleet.member("quick"), fleet.member("gone")
    gone.want()
    quick.want()
    gone.until(lambda member: member.packets > 0)
    gone.close()
    quick.until(whole)


def test_a_late_joiner_gets_all_it_wants_and_no_block_is_sent_twice_for_the_first(serve) -> None:
    fleet = serve(PassRules(gather_s=0.0, max_bytes_per_s=2e6))  # slow enough for a busy machine to join in the middle
    first = fleet.member("first")
    first.want()
    first.until(lambda member: len(member.have) > COUNT // 8)
    late = fleet.member("late")  # who listened before would hold what went by
    late.want()
    for member in (first, late):
        member.until(whole)
        assert member.content() == CONTENT
    assert COUNT < fleet.count(Count.SHARED_BLOCKS) < 2 * COUNT


def test_lost_packets_are_repaired_one_to_one(serve) -> None:
    fleet = serve()
    member = fleet.member("lossy", hears=lambda sequence: sequence % 10 != 5)
    other = fleet.member("other")
    for each in (member, other):
        each.want()
    other.until(whole)
    while lacking := member.lacks():
        asked = lacking[: limits.MAX_BLOCKS_PER_REQUEST]
        member.want(*asked, shared=False, request="repair")
        member.until(lambda one, asked=asked: not set(asked) & set(one.lacks()))
    assert member.content() == CONTENT
    assert fleet.count(Count.BLOCKS) > 0


def test_a_stop_in_the_middle_of_a_pass_ends_it_there(serve) -> None:
    fleet = serve()
    member = fleet.member("cam-1")
    member.want()
    member.until(lambda one: one.packets > 0)
    fleet.service.close(PATIENCE_S)
    assert not [thread.name for thread in threading.enumerate() if thread.name in ("files", "passes")]
    assert fleet.count(Count.SHARED_BLOCKS) < COUNT
