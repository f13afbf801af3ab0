"""What comes down goes to whoever waits for it; what nobody understands is ignored and still acknowledged to the broker."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from edge_agent.errors import Reject, Retry
from edge_agent.link import mqtt as link_module
from edge_agent.link.mqtt import Handlers, MqttLink
from fleet_contract import batches, limits, topics
from fleet_contract.messages import (
    Ack,
    Batch,
    Event,
    Follow,
    FromDevice,
    Lane,
    Packet,
    Progress,
    Refusal,
    Status,
    Url,
    Want,
    WantUrl,
    decode_from_device,
    encode,
)
from fleet_contract.mqtt import Offline, Tls, Will

AT = datetime(2026, 1, 1, tzinfo=UTC)


class FakeSession:
    """Stands for fleet_contract.mqtt.Session."""

    connected = True
    protocol = "5"

    def __init__(
        self,
        url: str,
        client_id: str,
        tls: Tls,
        *,
        subscriptions: list[str],
        on_message: Callable[[str, bytes, Callable[[], None]], None],
        on_connected: Callable[[], None],
        will: Will,
        **_pacing: object,
    ) -> None:
        self.subscriptions, self.will, self.on_message, self.on_connected = subscriptions, will, on_message, on_connected
        self.published: list[tuple[str, bytes, bool]] = []
        self.acknowledged = 0
        self.started = False

    def start(self) -> None:
        self.started = True

    def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        if not self.connected:
            raise Offline("not connected")
        self.published.append((topic, payload, retain))

    def deliver(self, topic: str, payload: bytes) -> None:
        self.on_message(topic, payload, self._acknowledge)

    def _acknowledge(self) -> None:
        self.acknowledged += 1


class World:
    def __init__(self) -> None:
        self.ignored: list[str] = []
        tls = Tls(Path("ca"), Path("cert"), Path("key"))
        self.link = MqttLink("mqtts://localhost", "dev-1", tls, epoch="e1", at=AT, on_ignored=self.ignored.append)
        self.session: FakeSession = self.link._session  # type: ignore[assignment]
        self.came: list[tuple[str, object]] = []
        self.link.start(
            Handlers(
                self._note("order"),
                self._note("ack"),
                self._note("file"),
                lambda topic, packet: self.came.append((topic, packet)),
                lambda: self.came.append(("connected", None)),
                self._note("follow"),
            )
        )

    def _note(self, kind: str) -> Callable[[object], None]:
        return lambda message: self.came.append((kind, message))


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setattr(link_module.mqtt, "Session", FakeSession)
    return World()


def down(kind: topics.Down, device: str = "dev-1") -> str:
    return topics.down(device, kind)


FOLLOW = Follow("0" * 32, "1" * 16)
ACK, REFUSAL = Ack("e1", Lane.EVENTS, [(0, 1)]), Refusal("r", "not-found", "no")
PACKET, URL = Packet("r", 0, 1, 4096, [0], "none", b"x"), Url("r", "https://fleet.example/v1/files/x?permit=p", AT)
SHARED = topics.shared("targets/x", 4096)


@pytest.mark.parametrize(
    ("topic", "payload", "came"),
    [
        pytest.param(down(topics.Down.ORDER), b"an envelope, unverified", ("order", b"an envelope, unverified"), id="order"),
        pytest.param(down(topics.Down.ACK), encode(ACK), ("ack", ACK), id="ack"),
        pytest.param(down(topics.Down.BLOCKS), encode(PACKET), ("file", PACKET), id="packet"),
        pytest.param(down(topics.Down.BLOCKS), encode(URL), ("file", URL), id="address"),
        pytest.param(down(topics.Down.TRACE), encode(FOLLOW), ("follow", FOLLOW), id="a record to follow"),
        pytest.param(SHARED, encode(PACKET), (SHARED, PACKET), id="packet of a shared pass"),
        pytest.param(down(topics.Down.BLOCKS), encode(REFUSAL), ("file", REFUSAL), id="refusal"),
    ],
)
def test_each_message_finds_its_reader(world: World, topic: str, payload: bytes, came: tuple) -> None:
    world.session.deliver(topic, payload)
    assert (world.came, world.session.acknowledged) == ([came], 1)


@pytest.mark.parametrize(
    ("topic", "payload", "code"),
    [
        pytest.param(down(topics.Down.ACK), b"\xc1", "malformed-message", id="no msgpack"),
        pytest.param(down(topics.Down.ACK), b"\x92\x63\xc0", "unknown-version", id="an unknown version"),
        pytest.param(down(topics.Down.ACK), bytes(limits.MAX_MESSAGE_BYTES + 1), "too-large", id="too large"),
        pytest.param(down(topics.Down.ORDER, "dev-2"), b"x", "bad-topic", id="another device's order"),
        pytest.param("edgefleet/v1/dev-1/down/other", b"x", "bad-topic", id="an unknown kind"),
        pytest.param(SHARED, encode(ACK), "malformed-message", id="on a shared topic anything but packets"),
        pytest.param(SHARED[:-1] + "+", encode(PACKET), "bad-topic", id="a shared topic that is none"),
        pytest.param("somewhere/else", b"x", "bad-topic", id="a foreign topic"),
    ],
)
def test_what_is_not_understood_is_ignored_and_counted(world: World, topic: str, payload: bytes, code: str) -> None:
    world.session.deliver(topic, payload)
    assert (world.came, world.session.acknowledged, world.ignored) == ([], 1, [code])


def test_one_subscription_and_a_last_will_that_says_offline(world: World) -> None:
    assert world.session.subscriptions == ["edgefleet/v1/dev-1/down/+"]
    assert world.session.will.topic == "edgefleet/v1/dev-1/up/status"
    assert decode_from_device(world.session.will.payload) == Status(at=AT, online=False, epoch="e1")


@pytest.mark.parametrize(
    ("message", "kind", "retained"),
    [
        pytest.param(Status(at=AT, online=True, epoch="e1"), "status", True, id="status is retained"),
        pytest.param(batches.make("e1", Lane.EVENTS, 0, [Event(at=AT, kind="x")]), "records", False, id="records"),
        pytest.param(Want("r", "metadata/timestamp.json", 4096, b"\x01"), "want", False, id="want"),
        pytest.param(WantUrl("r", "targets/x"), "want", False, id="the wish for an address"),
        pytest.param(Progress("p", 15), "want", False, id="credit for a pass"),
    ],
)
def test_each_message_has_its_topic(world: World, message: FromDevice, kind: str, retained: bool) -> None:
    world.link.send(message)
    assert world.session.published == [(f"edgefleet/v1/dev-1/up/{kind}", encode(message), retained)]


def test_offline_is_a_reason_to_wait(world: World) -> None:
    world.session.connected = False
    with pytest.raises(Retry):
        world.link.send(Want("r", "metadata/timestamp.json", 4096, b"\x01"))


def test_what_no_wire_takes_is_rejected(world: World) -> None:
    with pytest.raises(Reject) as caught:
        world.link.send(Batch("e1", Lane.SAMPLES, 0, 1, "none", 9, bytes(limits.MAX_MESSAGE_BYTES), "b1"))
    assert caught.value.code == "too-large"


def test_a_connection_is_told(world: World) -> None:
    world.session.on_connected()
    assert world.came == [("connected", None)]
