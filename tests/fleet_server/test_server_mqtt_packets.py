"""The contract's own MQTT packets, understood by both brokers."""

import socket
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from fleet_contract import mqtt_packets
from fleet_contract.mqtt_packets import Connack, FromServer, Level, Pingresp, Puback, Publish, Suback, Unsuback, Will
from fleet_contract.mqtt_reader import Reader
from tests.fakes.server_broker import KINDS, PATIENCE_S, Place, new_place

ORDER, ACK, STATUS = "edgefleet/v1/pi-1/down/order", "edgefleet/v1/pi-1/down/ack", "edgefleet/v1/pi-1/up/status"


@pytest.fixture(scope="module", params=KINDS)
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    place = new_place(request.param, tmp_path_factory.mktemp("broker"))
    place.child.start()
    yield place
    place.child.close()


@pytest.fixture
def level(place: Place) -> Level:
    return Level.V5 if place.child.kind == "mosquitto" else Level.V311


class Line:
    """One blocking connection."""

    def __init__(self, connection: socket.socket, level: Level) -> None:
        self.connection, self._reader, self._ahead = connection, Reader(level), deque[FromServer]()

    def send(self, *packets: bytes) -> None:
        self.connection.sendall(b"".join(packets))

    def next(self) -> FromServer | None:
        """None at the end of the stream."""
        while not self._ahead:
            data = self.connection.recv(65_536)
            if not data:
                return None
            self._ahead += self._reader.feed(data)
        return self._ahead.popleft()


@contextmanager
def line(place: Place, name: str, level: Level, *, will: Will | None = None) -> Iterator[Line]:
    tls = place.server if name == "fleet-server" else place.device(name)
    with (
        socket.create_connection(("localhost", place.port), PATIENCE_S) as plain,
        tls.context().wrap_socket(plain, server_hostname="localhost") as connection,
    ):
        peer = Line(connection, level)
        peer.send(mqtt_packets.connect(name, 20, level, will=will))
        answer = peer.next()
        assert isinstance(answer, Connack)
        assert answer.code == 0
        yield peer


def test_a_device_and_the_server_talk(place: Place, level: Level) -> None:
    with line(place, "fleet-server", level) as server, line(place, "pi-1", level) as device:
        device.send(mqtt_packets.subscribe(1, ["edgefleet/v1/pi-1/down/+"], level=level))
        assert device.next() == Suback(1, (1,))
        server.send(mqtt_packets.publish(ACK, b"x" * 40_000, level=level, packet_id=9))
        assert server.next() == Puback(9)
        message = device.next()
        assert isinstance(message, Publish)
        assert (message.topic, message.payload, message.packet_id > 0) == (ACK, b"x" * 40_000, True)
        device.send(mqtt_packets.puback(message.packet_id), mqtt_packets.PINGREQ)
        assert device.next() == Pingresp()
        device.send(mqtt_packets.unsubscribe(2, ["edgefleet/v1/pi-1/down/+"], level=level))
        assert device.next() == Unsuback(2)
        device.send(mqtt_packets.disconnect(level))
        assert device.next() is None


def test_what_is_retained_says_so(place: Place, level: Level) -> None:
    with line(place, "fleet-server", level) as server, line(place, "pi-1", level) as device:
        server.send(mqtt_packets.publish(ORDER, b"signed", level=level, packet_id=1, retain=True))
        assert server.next() in (Puback(1), Puback(1, 0x10))
        device.send(mqtt_packets.subscribe(1, ["edgefleet/v1/pi-1/down/+"], level=level))
        found = {type(packet): packet for packet in (device.next(), device.next())}
        assert found[Suback].codes == (1,)
        assert (found[Publish].topic, found[Publish].payload, found[Publish].retain) == (ORDER, b"signed", True)


def test_a_line_that_breaks_leaves_the_will(place: Place, level: Level) -> None:
    with line(place, "fleet-server", level) as server:
        server.send(mqtt_packets.subscribe(1, [STATUS], level=level))
        assert server.next() == Suback(1, (1,))
        with line(place, "pi-1", level, will=Will(STATUS, b"gone")):
            pass
        message = server.next()
        assert isinstance(message, Publish)
        assert (message.topic, message.payload) == (STATUS, b"gone")


def test_what_the_acl_forbids_is_refused_by_a_code(place: Place, level: Level) -> None:
    if level is not Level.V5:
        pytest.skip("MQTT 3.1.1 has no code for it")
    with line(place, "pi-1", level) as device:
        device.send(mqtt_packets.publish("edgefleet/v1/pi-2/up/status", b"", level=level, packet_id=3))
        assert device.next() == Puback(3, 0x87)
