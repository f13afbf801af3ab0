"""What every broker of ours must enforce and provide: the same tests over Mosquitto and the embedded one, with raw MQTT clients."""

import os
import queue
import signal
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from fleet_contract import limits, topics
from fleet_contract.backoff import Backoff
from fleet_contract.mqtt import Session
from fleet_contract.topics import Down, Up
from fleet_server.errors import Unavailable
from fleet_server.trust import device_ca
from tests.fakes.device_keys import identity
from tests.fakes.server_broker import KINDS, PATIENCE_S, Client, Place, connected, new_place, until

FLEET = topics.ROOT + "/#"
SHARED = topics.shared("targets/model", 4096)


@pytest.fixture(scope="module", params=KINDS)
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    made = new_place(request.param, tmp_path_factory.mktemp(request.param))
    made.child.start()
    yield made
    made.child.close()


def test_device_publishes_on_its_own_topics_and_reads_its_own(place: Place) -> None:
    with connected(place, place.server) as server, connected(place, place.device("own-1")) as device:
        server.subscribe(topics.all_up())
        device.subscribe(topics.all_down("own-1"))
        device.publish(topics.up("own-1", Up.RECORDS), b"records")
        assert server.next()[:2] == (topics.up("own-1", Up.RECORDS), b"records")
        server.publish(topics.down("own-1", Down.ACK), b"ack")
        assert device.next()[:2] == (topics.down("own-1", Down.ACK), b"ack")


@pytest.mark.parametrize(
    "topic",
    [
        pytest.param(topics.up("victim", Up.RECORDS), id="another-device's-records"),
        pytest.param(topics.up("victim", Up.STATUS), id="another-device's-status"),
        pytest.param(topics.down("victim", Down.ORDER), id="another-device's-order"),
        pytest.param(topics.down("rogue", Down.ORDER), id="its-own-order"),
        pytest.param(SHARED, id="a-shared-topic"),
        pytest.param("elsewhere/rogue", id="outside-the-fleet"),
        pytest.param(f"{topics.ROOT}/rogue/up/records/deeper", id="below-its-own"),
    ],
)
@pytest.mark.parametrize("retain", [False, True], ids=["plain", "retained"])
def test_publication_to_a_foreign_topic_reaches_nobody(place: Place, topic: str, retain: bool) -> None:
    with connected(place, place.server) as server, connected(place, place.device("rogue")) as rogue:
        server.subscribe(FLEET)
        rogue.publish(topic, b"forged", retain=retain)
        rogue.publish(topics.up("rogue", Up.RECORDS), b"marker")
        assert b"forged" not in server.until_marker()
    with connected(place, place.server) as later:
        later.subscribe(FLEET, "elsewhere/#")
        later.publish(topics.down("rogue", Down.ACK), b"marker")
        assert b"forged" not in later.until_marker()


@pytest.mark.parametrize("foreign", ["#", "+/+/+/+/+", FLEET, topics.all_up(), topics.all_down("victim"), f"{topics.ROOT}/+/down/order"])
def test_subscription_to_foreign_topics_delivers_nothing(place: Place, foreign: str) -> None:
    with connected(place, place.server) as server, connected(place, place.device("rogue")) as rogue:
        server.publish(topics.down("victim", Down.ORDER), b"retained secret", retain=True)
        rogue.subscribe(foreign)
        server.publish(topics.down("victim", Down.BLOCKS), b"live secret")
        rogue.subscribe(topics.all_down("rogue"))
        server.publish(topics.down("rogue", Down.ACK), b"marker")
        assert rogue.next()[:2] == (topics.down("rogue", Down.ACK), b"marker")


def test_devices_share_what_the_server_publishes_once(place: Place) -> None:
    readers = [place.device(name) for name in ("reader-1", "reader-2")]
    with connected(place, place.server) as server, connected(place, readers[0]) as first, connected(place, readers[1]) as second:
        assert first.subscribe(SHARED) == second.subscribe(SHARED) == [1]
        server.publish(SHARED, b"packet")
        assert first.next() == second.next() == (SHARED, b"packet", False)


@pytest.mark.parametrize(
    "wide", [f"{topics.ROOT}/{topics.SHARED}/blocks/+", f"{topics.ROOT}/{topics.SHARED}/#", f"{topics.ROOT}/+/blocks/+"]
)
def test_a_wildcard_over_shared_topics_gives_no_more_than_files_that_every_device_may_ask_for(place: Place, wide: str) -> None:
    """Mosquitto holds a subscription against its ACL only when it delivers, topic by topic: there a curious device listens to every pass."""
    with connected(place, place.server) as server, connected(place, place.device("curious")) as device:
        device.subscribe(wide)
        device.subscribe(topics.all_down("curious"))
        server.publish(SHARED, b"packet")
        server.publish(f"{topics.ROOT}/{topics.SHARED}/other", b"not for devices")
        server.publish(f"{topics.ROOT}/victim/blocks/other", b"not for devices")
        server.publish(topics.down("curious", Down.ACK), b"marker")
        assert device.until_marker() == ([b"packet"] if place.child.kind == "mosquitto" else [])


def test_connecting_device_gets_nothing_that_it_did_not_subscribe_to(place: Place) -> None:
    with connected(place, place.server) as server, connected(place, place.device("victim")) as victim:
        server.publish(topics.down("victim", Down.ORDER), b"secret", retain=True)
        victim.subscribe(topics.all_down("victim"))
        with connected(place, place.device("rogue")) as rogue:
            rogue.subscribe(topics.all_down("rogue"))
            server.publish(topics.down("rogue", Down.ACK), b"marker")
            assert rogue.next()[1] == b"marker"


@pytest.mark.parametrize("clean", [True, False], ids=["clean-session", "stored-session"])
def test_client_id_and_user_name_give_no_rights(place: Place, clean: bool) -> None:
    with connected(place, place.server) as server, connected(place, place.device("victim"), "victim") as victim:
        server.subscribe(FLEET)
        with connected(place, place.device("rogue"), "victim", clean=clean, username="fleet-server") as rogue:
            rogue.publish(topics.up("victim", Up.RECORDS), b"forged")
            rogue.publish(topics.up("rogue", Up.RECORDS), b"marker")
            assert b"forged" not in server.until_marker()
        victim.publish(topics.up("victim", Up.RECORDS), b"still here")
        assert server.next()[1] == b"still here"
        assert not victim.gone.is_set()


def test_second_connection_of_one_identity_takes_the_first_over(place: Place) -> None:
    tls = place.device("twin")
    with connected(place, tls) as first, connected(place, tls):
        assert first.gone.wait(PATIENCE_S)


def test_who_was_taken_over_says_that_the_connection_ended(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    """What a person sees first of a key in two hands; not every broker says why."""
    caplog.set_level("INFO", "fleet_contract.mqtt")
    gone, tls, down = threading.Event(), place.device("twin"), topics.all_down("twin")
    first, second = (
        Session(place.url, "twin", tls, subscriptions=[down], on_message=lambda *_: None, on_disconnected=gone.set) for _ in range(2)
    )
    first.start()
    assert first.wait_connected(PATIENCE_S)
    second.start()
    assert gone.wait(PATIENCE_S)
    first.close()
    second.close()
    assert any(message.startswith("twin disconnected: ") for message in caplog.messages)


def refuses(place: Place, certificate: tuple[Path, Path] | None) -> bool:
    """TLS 1.3 tells the client only when it reads: a refused one cannot get a CONNACK."""
    context = ssl.create_default_context(cafile=place.ca.folder / "ca.pem")
    if certificate:
        context.load_cert_chain(*certificate)
    client = paho.Client(CallbackAPIVersion.VERSION2, protocol=MQTTProtocolVersion.MQTTv311, reconnect_on_failure=False)
    client.tls_set_context(context)
    welcome = threading.Event()
    client.on_connect = lambda *_: welcome.set()
    try:
        client.connect("localhost", place.port, 20)
    except OSError:
        return True
    client.loop_forever()
    return not welcome.is_set()


def test_connection_without_a_certificate_is_refused(place: Place) -> None:
    assert refuses(place, None)


def test_certificate_of_another_ca_is_refused(place: Place, tmp_path: Path) -> None:
    stranger = device_ca.create(tmp_path / "other", "demo", lambda: datetime.now(UTC))
    tls = identity(stranger, "victim", tmp_path / "victim")
    assert refuses(place, (tls.certificate, tls.key))


def test_listeners_own_certificate_is_not_a_client(place: Place) -> None:
    assert refuses(place, (place.ca.folder / "server.pem", place.ca.folder / "server.key"))


def test_retained_order_waits_for_the_device(place: Place) -> None:
    topic = topics.down("late", Down.ORDER)
    with connected(place, place.server) as server:
        server.publish(topic, b"old", retain=True)
        server.publish(topic, b"order", retain=True)
    with connected(place, place.device("late")) as device:
        device.subscribe(topics.all_down("late"))
        assert device.next() == (topic, b"order", True)


def test_last_will_is_delivered_and_retained_when_the_device_vanishes(place: Place) -> None:
    topic = topics.up("fragile", Up.STATUS)
    with connected(place, place.server) as server:
        server.subscribe(topics.all_up())
        device = Client(place, place.device("fragile"))
        device.client.will_set(topic, b"gone", qos=1, retain=True)
        device.connect().cut()
        assert server.next()[:2] == (topic, b"gone")
    with connected(place, place.server) as later:
        later.subscribe(topics.all_up())
        until(lambda: (topic, b"gone", True) in list(later.received.queue))


def test_last_will_is_not_sent_after_a_goodbye(place: Place) -> None:
    with connected(place, place.server) as server:
        server.subscribe(topics.up("polite", Up.STATUS), topics.up("polite", Up.RECORDS))
        device = Client(place, place.device("polite"))
        device.client.will_set(topics.up("polite", Up.STATUS), b"gone", qos=1)
        device.connect().close()
        with connected(place, place.device("polite")) as again:
            again.publish(topics.up("polite", Up.RECORDS), b"marker")
            assert server.next()[1] == b"marker"


def test_last_will_on_a_foreign_topic_is_never_sent(place: Place) -> None:
    with connected(place, place.server) as server:
        server.subscribe(FLEET)
        rogue = Client(place, place.device("rogue"))
        rogue.client.will_set(topics.up("victim", Up.STATUS), b"forged", qos=1, retain=True)
        rogue.connect()
        if rogue.refused is None:
            rogue.cut()
        rogue.close()
        with connected(place, place.device("rogue")) as again:
            again.publish(topics.up("rogue", Up.RECORDS), b"marker")
            assert b"forged" not in server.until_marker()


def test_largest_message_passes_and_a_larger_one_does_not(place: Place) -> None:
    topic = topics.up("bulky", Up.RECORDS)
    with connected(place, place.server) as server:
        server.subscribe(topics.all_up(Up.RECORDS))
        with connected(place, place.device("bulky")) as device:
            device.publish(topic, bytes(limits.MAX_MESSAGE_BYTES))
            assert len(server.next()[1]) == limits.MAX_MESSAGE_BYTES
            device.client.publish(topic, bytes(2 * limits.MAX_MESSAGE_BYTES), qos=1)
            assert device.gone.wait(PATIENCE_S)
        with connected(place, place.device("bulky")) as device:
            device.publish(topic, b"marker")
            assert server.next()[1] == b"marker"


@pytest.mark.parametrize(
    "begin",
    [
        pytest.param(b"", id="silence"),
        pytest.param(b"GET / HTTP/1.1\r\n\r\n", id="another-protocol"),
        pytest.param(b"\x10\xff\xff\xff\x7f", id="endless-connect"),
        pytest.param(b"\x10\xff\xff\xff\xff\xff", id="endless-length"),
        pytest.param(b"\x10\x0c\xff\xffMQTT\x04\x02\x00\x14\x00\x00", id="endless-protocol-name"),
        pytest.param(b"\x10\x0c\x00\x04MQTT\x04\xff\x00\x14\x00\x00", id="impossible-flags"),
        pytest.param(b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x14\x00\x01\xff", id="client-id-that-is-no-text"),
        pytest.param(b"\x30\x02\x00\x00", id="publish-before-connect"),
        pytest.param(b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x14\x00\x00\xf0\x00\x82\x01\x00\x30\xff\xff\xff\x7f", id="garbage-after-connect"),
    ],
)
def test_malformed_bytes_of_one_device_do_not_disturb_another(place: Place, begin: bytes) -> None:
    with connected(place, place.server) as server, connected(place, place.device("calm")) as calm:
        server.subscribe(topics.up("calm", Up.RECORDS))
        tls = place.device("rogue")
        context = ssl.create_default_context(cafile=tls.ca)
        context.load_cert_chain(tls.certificate, tls.key)
        with (
            socket.create_connection(("localhost", place.port), PATIENCE_S) as plain,
            context.wrap_socket(plain, server_hostname="localhost") as wire,
        ):
            wire.sendall(begin)
            calm.publish(topics.up("calm", Up.RECORDS), b"marker")
            assert server.next()[1] == b"marker"
        calm.publish(topics.up("calm", Up.RECORDS), b"marker")
        assert server.next()[1] == b"marker"
    assert place.child.pid is not None


def test_a_publisher_is_told_when_the_broker_has_taken_a_message(place: Place) -> None:
    session = Session(place.url, "fleet-server", place.server, subscriptions=[topics.all_up()], on_message=lambda *_: None)
    session.start()
    assert session.wait_connected(PATIENCE_S)
    assert session.publish(SHARED, b"packet").taken(PATIENCE_S)
    session.close()


def test_a_publisher_is_told_that_nobody_listens_where_the_broker_says_so(place: Place) -> None:
    """MQTT 5, 3.4.2.1; the embedded one speaks 3.1.1, which knows no reasons."""
    device = Session(place.url, "alone", place.device("alone"), subscriptions=[], on_message=lambda *_: None)
    device.start()
    assert device.wait_connected(PATIENCE_S)
    unheard = device.publish(topics.up("alone", Up.RECORDS), b"records")
    assert unheard.taken(PATIENCE_S)
    with connected(place, place.server) as server:
        server.subscribe(topics.all_up())
        heard = device.publish(topics.up("alone", Up.RECORDS), b"records")
        assert heard.taken(PATIENCE_S)
    assert (unheard.unheard(), heard.unheard()) == (place.child.kind == "mosquitto", False)
    device.close()


def test_session_falls_back_to_what_the_broker_speaks(place: Place) -> None:
    answered = threading.Event()
    session = Session(
        place.url, "speaker", place.device("speaker"), subscriptions=[topics.all_down("speaker")], on_message=lambda *_: answered.set()
    )
    session.start()
    assert session.wait_connected(PATIENCE_S)
    assert session.protocol == {"mosquitto": "5", "embedded": "3.1.1"}[place.child.kind]
    session.close()


@pytest.mark.parametrize("kind", KINDS)
def test_sessions_come_back_after_the_broker_was_killed_with_all_they_listen_to(kind: str, tmp_path: Path) -> None:
    place = new_place(kind, tmp_path)
    place.child.start()
    received: queue.Queue[tuple[str, bytes]] = queue.Queue()

    def take(topic: str, payload: bytes, acknowledge: Callable[[], None]) -> None:
        acknowledge()
        received.put((topic, payload))

    quick = Backoff(0.05, 0.2)
    server = Session(place.url, "fleet-server", place.server, subscriptions=[topics.all_up()], on_message=take, backoff=quick)
    device = Session(place.url, "cam", place.device("cam"), subscriptions=[topics.all_down("cam")], on_message=take, backoff=quick)
    for session in (server, device):
        session.start()
        assert session.wait_connected(PATIENCE_S)

    def meet() -> None:
        """The broker has everything that the device asked it for before."""
        device.publish(topics.up("cam", Up.WANT), b"marker")
        assert received.get(timeout=PATIENCE_S)[1] == b"marker"

    kept, left = (topics.shared(f"targets/{name}", limits.MIN_BLOCK_BYTES) for name in ("kept", "left"))
    device.subscribe(kept)
    device.subscribe(left)
    meet()
    server.publish(kept, b"before")
    assert received.get(timeout=PATIENCE_S) == (kept, b"before")
    device.unsubscribe(left)
    killed = place.child.pid
    os.kill(killed, signal.SIGKILL)
    until(lambda: not server.connected and not device.connected)
    until(lambda: server.connected and device.connected)
    meet()
    for topic in (left, kept):
        server.publish(topic, b"after")
    assert received.get(timeout=PATIENCE_S) == (kept, b"after")
    server.publish(topics.down("cam", Down.ORDER), b"order", retain=True)
    assert received.get(timeout=PATIENCE_S) == (topics.down("cam", Down.ORDER), b"order")
    assert place.child.pid not in (None, killed)
    for session in (device, server):
        session.close()
    place.child.close()
    assert place.child.pid is None


@pytest.mark.parametrize("kind", KINDS)
def test_broker_that_cannot_start_says_why(kind: str, tmp_path: Path) -> None:
    place = new_place(kind, tmp_path)
    (place.ca.folder / "server.key").write_text("not a key")
    with pytest.raises(Unavailable) as caught:
        place.child.start()
    assert str(place.folder / "broker") in str(caught.value)
    assert "key" in str(caught.value).lower()
