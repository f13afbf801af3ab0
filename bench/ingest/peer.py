"""The peer: a bare paho subscriber that acknowledges by hand and keeps nothing."""

import multiprocessing
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.sharedctypes import Synchronized

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from fleet_contract import topics
from fleet_contract.broker import Tls
from fleet_contract.topics import Up

_CREDIT = 4_096
_PATIENCE_S = 60.0


@contextmanager
def subscribed(port: int, tls: Tls) -> Iterator[Synchronized]:
    """The number of messages that it has got, while it runs in a process of its own."""
    context = multiprocessing.get_context("spawn")
    count, ready = context.Value("q", 0), context.Event()
    process = context.Process(target=_receive, args=(port, tls, count, ready), daemon=True)
    process.start()
    try:
        if not ready.wait(_PATIENCE_S):
            raise TimeoutError("the paho subscriber did not connect")
        yield count
    finally:
        process.terminate()
        process.join()


def _receive(port: int, tls: Tls, count: Synchronized, ready) -> None:
    client = paho.Client(CallbackAPIVersion.VERSION2, "paho", protocol=MQTTProtocolVersion.MQTTv5, manual_ack=True)
    context = ssl.create_default_context(cafile=str(tls.ca))
    context.load_cert_chain(tls.certificate, tls.key)
    client.tls_set_context(context)
    got = count.get_obj()

    def take(client: paho.Client, _userdata: object, message: paho.MQTTMessage) -> None:
        client.ack(message.mid, message.qos)
        got.value += 1  # nobody else writes it

    client.on_message = take
    client.on_connect = lambda client, *_: client.subscribe(topics.all_up(Up.RECORDS), 1)
    client.on_subscribe = lambda *_: ready.set()
    properties = Properties(PacketTypes.CONNECT)
    properties.ReceiveMaximum = _CREDIT
    client.connect("localhost", port, 60, properties=properties)
    client.loop_forever()
