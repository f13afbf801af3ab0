"""A server, a broker or a network that sends too much, too slowly, too little or something else: over MQTT and over HTTP.

The limits are the product's own or shorter; time is a clock that every look moves on, or, over HTTP, deadlines of moments.
"""

import tracemalloc
from collections.abc import Callable, Iterable, Iterator

import pytest
from msgspec.structs import replace

from edge_agent.clock import SystemClock
from edge_agent.delivery.pace import Manners
from edge_agent.errors import AgentError
from edge_agent.link.https import Site
from fleet_contract import compression, limits, packets
from fleet_contract.blocks import from_bitmap
from fleet_contract.messages import Packet, Refusal, Url, Want, WantUrl
from tests.fakes import hostile_site
from tests.fakes.attacked_device import AttackedDevice
from tests.fakes.hostile_server import Answer, HostileServer, honest
from tests.fakes.hostile_site import HostileSite

GIB = 1 << 30


BOMB = compression.compress(bytes(GIB // 8))[1]
"""A few kilobytes that open to 128 MiB."""


def _packets(answers: list[Answer]) -> Iterator[Packet]:
    return (answer for answer in answers if isinstance(answer, Packet))


def _endless(want: Want, answers: list[Answer]) -> Iterable[Answer]:
    """Each file is said to be as long as a file can be."""
    return [replace(packet, length=GIB) for packet in _packets(answers)]


def _flood(want: Want, answers: list[Answer]) -> Iterable[Answer]:
    """Thousands of answers to one request, none of them right."""
    for packet in [*_packets(answers)] * 3_000:
        yield replace(packet, data=b"x" * len(packet.data))


def _drip(want: Want, answers: list[Answer]) -> Iterable[Answer]:
    """What comes is well formed and of no use."""
    return [replace(packet, numbers=[number + 10_000 for number in packet.numbers]) for packet in _packets(answers)]


def _truncated(want: Want, answers: list[Answer]) -> Iterable[Answer]:
    return [replace(packet, data=packet.data[: len(packet.data) // 2]) for packet in _packets(answers)]


def _bombed(want: Want, answers: list[Answer]) -> Iterable[Answer]:
    return [Packet(want.request, 0, packet.length, want.block_bytes, packet.numbers, "zstd", BOMB) for packet in _packets(answers)]


def _silence(want: Want, answers: list[Answer]) -> Iterable[Answer]:
    return []


def _refused(want: Want, answers: list[Answer]) -> Iterable[Answer]:
    return [Refusal(want.request, "not-found", "x" * 10_000)]


def _wrong(want: Want, answers: list[Answer]) -> Iterable[Answer]:
    """Sound packets of other bytes."""
    for packet in _packets(answers):
        blocks = [(number, bytes(len(data))) for number, data in packets.unpack(packet, want.block_bytes)]
        yield from packets.pack(want.request, packet.length, want.block_bytes, blocks)


def _only(kind: str, twist: Callable) -> Callable:
    """The attack on files below `kind` alone: an attacker who lets the rest pass."""
    return lambda want, answers: twist(want, answers) if want.path.startswith(kind) else honest(want, answers)


ATTACKS = [
    pytest.param(_endless, id="endless data"),
    pytest.param(_flood, id="a flood of answers"),
    pytest.param(_drip, id="a slow drip of nothing useful"),
    pytest.param(_truncated, id="truncated"),
    pytest.param(_bombed, id="compressed bomb"),
    pytest.param(_silence, id="silence"),
    pytest.param(_refused, id="refused"),
    pytest.param(_wrong, id="wrong bytes"),
]


@pytest.mark.parametrize("part", ["metadata/", "targets/"])
@pytest.mark.parametrize("twist", ATTACKS)
def test_over_mqtt_it_only_delays(world, part: str, twist: Callable) -> None:
    world.publish("2.0.0")
    world.device.clock.step_s = 6.0
    world.device.server.twist = _only(part, twist)
    world.order("2.0.0", 2)
    tracemalloc.start()
    assert world.device.settle() is not None
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 16 * limits.MIB
    assert world.device.version == "1.0.0"
    assert world.device.state.quarantined == ()
    world.device.server.twist = honest
    world.device.clock.step_s = 0.2
    assert world.converges("2.0.0", 2)


def test_a_reset_in_the_middle_costs_only_what_was_under_way(world) -> None:
    world.publish("2.0.0")
    server = world.device.server
    server.wants.clear()

    def cut_the_second(want: Want, answers: list[Answer]) -> Iterable[Answer]:
        server.connected = len(_block_wants(server)) < 2
        return answers

    server.twist = _only("targets/", cut_the_second)
    world.order("2.0.0", 2)
    assert world.device.settle() == "offline"
    first, _ = _block_wants(server)
    server.connected, server.twist = True, honest
    server.wants.clear()
    world.device.restart()
    assert world.converges("2.0.0", 2)
    assert not {*from_bitmap(first.need)} & {number for want in _block_wants(server) for number in from_bitmap(want.need)}


def _block_wants(server: HostileServer) -> list[Want]:
    return [want for want in server.wants if want.path.startswith("targets/")]


BAD_SITES = [
    pytest.param(hostile_site.endless, id="endless data"),
    pytest.param(hostile_site.endless_header, id="an endless header"),
    pytest.param(hostile_site.says_too_much, id="a length beyond all bounds"),
    pytest.param(hostile_site.drips, id="slow drip of the body"),
    pytest.param(hostile_site.drips_headers, id="slow drip of headers"),
    pytest.param(hostile_site.falls_silent, id="silence in the middle"),
    pytest.param(hostile_site.truncates, id="truncated"),
    pytest.param(hostile_site.compresses, id="compressed bomb"),
    pytest.param(hostile_site.lies_about_the_range, id="another range than asked"),
    pytest.param(hostile_site.wrong_bytes, id="wrong bytes"),
    pytest.param(hostile_site.speaks_no_http, id="no HTTP"),
]


class TestHttp:
    @pytest.fixture
    def site(self, world) -> Iterator[HostileSite]:
        """The bundles are fetched from here alone; metadata come over MQTT."""
        with HostileSite(world.repository.files) as site:
            world.device = AttackedDevice(world.device.folder, world.repository, manners=Manners(transport="http"))
            world.device.server.url = lambda wish: _url(site, wish)
            world.device.server.twist = _only("targets/", _refused)
            world.device.clock.step_s = 2.0
            yield site

    @pytest.mark.parametrize("misbehave", BAD_SITES)
    def test_it_only_delays(self, world, site: HostileSite, misbehave: Callable) -> None:
        world.publish("2.0.0")
        site.misbehave = misbehave
        world.order("2.0.0", 2)
        assert world.device.settle() is not None
        assert world.device.version == "1.0.0"
        assert world.device.state.quarantined == ()
        site.misbehave = None
        assert world.converges("2.0.0", 2)

    def test_a_body_that_breaks_off_is_gone_on_with(self, world, site: HostileSite) -> None:
        """And no whole block is asked for twice."""
        site.misbehave = hostile_site.breaks_off
        world.publish("2.0.0")
        world.order("2.0.0", 2)
        for _ in range(10):
            world.device.settle()
        assert world.device.version == "2.0.0"
        assert len(site.asked) > 4
        begun = [int(wanted.removeprefix("bytes=").partition("-")[0]) for _, wanted in site.asked if wanted]
        assert begun == sorted(begun)

    @pytest.mark.parametrize("misbehave", BAD_SITES)
    def test_small_files_are_bounded_too(self, world, site: HostileSite, misbehave: Callable) -> None:
        """The client that reads metadata over HTTP (the conformance command does)."""
        site.misbehave = misbehave
        reader = Site(site.url, SystemClock(), None, AttackedDevice.bounds)
        before = world.repository.files["metadata/1.root.json"]
        try:
            got = reader.read("metadata/1.root.json", 100_000)
        except AgentError as error:
            assert error.code in {"too-large", "deadline", "too-slow", "cut", "http", "offline"}
        else:
            assert got == bytes(len(before)) if misbehave is hostile_site.wrong_bytes else got == before

    @pytest.mark.parametrize("url", ["", "file:///etc/passwd", "http://[", "ftp://127.0.0.1/x", "http://127.0.0.1:1/x", "x" * 3_000])
    def test_an_address_that_is_none_only_delays(self, world, site: HostileSite, url: str) -> None:
        world.publish("2.0.0")
        world.device.server.url = lambda wish: Url(wish.request, url, SystemClock().now())
        world.order("2.0.0", 2)
        assert world.device.settle() is not None
        assert world.device.version == "1.0.0"
        world.device.server.url = lambda wish: _url(site, wish)
        assert world.converges("2.0.0", 2)


def _url(site: HostileSite, wish: WantUrl) -> Url:
    return Url(wish.request, f"{site.url}/{wish.path}?permit=x", SystemClock().now())
