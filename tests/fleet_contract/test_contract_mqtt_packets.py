"""MQTT control packets: what is written is read again however the stream is cut, and no bytes do more than end the connection."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet_contract import limits, mqtt_packets
from fleet_contract.errors import TooLarge
from fleet_contract.mqtt_packets import BadPacket, Connack, Disconnect, Level, Pingresp, Puback, Publish, Suback, Unsuback
from fleet_contract.mqtt_reader import Reader

LEVELS = st.sampled_from(Level)
MESSAGES = st.builds(
    Publish,
    topic=st.text(min_size=1, max_size=40),
    payload=st.binary(max_size=300),
    packet_id=st.integers(0, 65_535),
    retain=st.booleans(),
    duplicate=st.booleans(),
)
ANSWERS = st.builds(Puback, packet_id=st.integers(1, 65_535))


def wire(packet: Publish | Puback, level: Level) -> bytes:
    if isinstance(packet, Puback):
        return mqtt_packets.puback(packet.packet_id)
    return mqtt_packets.publish(
        packet.topic, packet.payload, level=level, packet_id=packet.packet_id, retain=packet.retain, duplicate=packet.duplicate
    )


@given(level=LEVELS, packets=st.lists(MESSAGES | ANSWERS, max_size=8), cuts=st.lists(st.integers(1, 200), max_size=20))
def test_a_stream_is_read_alike_however_it_is_cut(level: Level, packets: list, cuts: list[int]) -> None:
    stream = b"".join(wire(packet, level) for packet in packets)
    reader, found = Reader(level), []
    for cut in cuts:
        found += reader.feed(stream[:cut])
        stream = stream[cut:]
    assert found + reader.feed(stream) == packets


def test_nobody_waits_for_the_acknowledgement_of_a_message_without_a_number() -> None:
    assert mqtt_packets.pubacks([3, 0, 4]) == mqtt_packets.puback(3) + mqtt_packets.puback(4)


@given(level=LEVELS, pieces=st.lists(st.binary(max_size=60), max_size=6))
def test_any_bytes_are_packets_or_a_bad_packet(level: Level, pieces: list[bytes]) -> None:
    reader = Reader(level)
    try:
        for piece in pieces:
            reader.feed(piece)
    except BadPacket as error:
        assert error.field


@given(level=LEVELS, head=st.sampled_from([0x20, 0x30, 0x32, 0x33, 0x3A, 0x40, 0x90, 0xB0, 0xD0, 0xE0]), body=st.binary(max_size=80))
def test_any_body_is_a_packet_or_a_bad_packet(level: Level, head: int, body: bytes) -> None:
    try:
        assert len(Reader(level).feed(bytes((head, len(body))) + body)) == 1
    except BadPacket as error:
        assert error.field


@pytest.mark.parametrize(
    ("level", "data", "packet"),
    [
        pytest.param(Level.V311, b"\x20\x02\x00\x00", Connack(0), id="3.1.1: accepted"),
        pytest.param(Level.V311, b"\x20\x02\x00\x01", Connack(1), id="3.1.1: another protocol level is wanted"),
        pytest.param(Level.V5, b"\x20\x03\x01\x00\x00", Connack(0), id="a session that was kept"),
        pytest.param(
            Level.V5,
            b"\x20\x13\x00\x00\x10" + b"\x21\x00\x14" + b"\x27\x00\x01\x00\x00" + b"\x13\x00\x3c" + b"\x2a\x00" + b"\x22\x00\x0a",
            Connack(0, 20, 65_536, 60, False),
            id="all that the server bounds",
        ),
        pytest.param(Level.V5, b"\x20\x08\x00\x87\x05\x1f\x00\x02no", Connack(0x87), id="refused, with a reason in words"),
        pytest.param(Level.V5, b"\x40\x03\x00\x07\x10", Puback(7, 0x10), id="taken, by no subscriber"),
        pytest.param(Level.V5, b"\x40\x04\x00\x07\x87\x00", Puback(7, 0x87), id="a message that was not allowed"),
        pytest.param(Level.V5, b"\x90\x05\x00\x01\x00\x01\x87", Suback(1, (1, 0x87)), id="two filters, one refused"),
        pytest.param(Level.V311, b"\x90\x03\x00\x01\x80", Suback(1, (0x80,)), id="3.1.1: refused"),
        pytest.param(Level.V5, b"\xb0\x04\x00\x02\x00\x00", Unsuback(2), id="no more of it"),
        pytest.param(Level.V5, b"\xd0\x00", Pingresp(), id="still there"),
        pytest.param(Level.V5, b"\xe0\x02\x8e\x00", Disconnect(0x8E), id="taken over"),
        pytest.param(Level.V5, b"\xe0\x00", Disconnect(0), id="ended, no reason given"),
        pytest.param(
            Level.V5, b"\x30\x0b\x00\x01t\x06\x26\x00\x01a\x00\x00k", Publish("t", b"k"), id="a property between topic and payload"
        ),
    ],
)
def test_packets_of_a_server(level: Level, data: bytes, packet: object) -> None:
    assert Reader(level).feed(data) == [packet]


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"\x30\xff\xff\xff\x7f", id="longer than the bound"),
        pytest.param(b"\x30\xff\xff\xff\xff\x7f", id="a length of five bytes"),
        pytest.param(b"\x10\x00", id="a packet of clients"),
        pytest.param(b"\x62\x02\x00\x01", id="QoS 2: a release"),
        pytest.param(b"\x34\x06\x00\x01t\x00\x01\x00", id="QoS 2: a message"),
        pytest.param(b"\x32\x06\x00\x01t\x00\x00\x00", id="the number 0"),
        pytest.param(b"\x30\x03\x00\x00\x00", id="no topic"),
        pytest.param(b"\x30\x04\x00\x01\xff\x00", id="a topic that is no text"),
        pytest.param(b"\x30\x03\x00\x09t", id="a topic beyond the end"),
        pytest.param(b"\x30\x07\x00\x01t\x03\x23\x00\x01", id="a topic alias"),
        pytest.param(b"\x30\x05\x00\x01t\x01\x7f", id="an unknown property"),
        pytest.param(b"\x40\x01\x00", id="half a number"),
    ],
)
def test_what_ends_the_connection(data: bytes) -> None:
    with pytest.raises(BadPacket):
        Reader(Level.V5).feed(data)


def test_a_reader_holds_no_more_than_one_packet() -> None:
    reader = Reader(Level.V5, max_packet_bytes=100)
    with pytest.raises(BadPacket) as caught:
        reader.feed(b"\x30\x65")
    assert caught.value.limit == 100


def test_nothing_above_the_bound_is_written() -> None:
    with pytest.raises(TooLarge):
        mqtt_packets.publish("t", bytes(limits.MAX_MQTT_PACKET_BYTES), level=Level.V5)


def test_a_connection_says_what_it_takes() -> None:
    packet = mqtt_packets.connect("pi-1", 20, Level.V5, receive_maximum=7, max_packet_bytes=1000)
    assert packet == b"\x10\x19\x00\x04MQTT\x05\x02\x00\x14" + struct.pack(">BBHBI", 8, 0x21, 7, 0x27, 1000) + b"\x00\x04pi-1"
