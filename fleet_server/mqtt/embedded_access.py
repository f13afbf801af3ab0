"""Who may do what on the embedded broker: amqtt plugins, and a protocol handler with the bounds that amqtt does not set."""

import asyncio
import logging
import math
import ssl
from dataclasses import dataclass
from pathlib import Path

from amqtt.adapters import StreamReaderAdapter
from amqtt.contexts import Action
from amqtt.mqtt.packet import CONNECT
from amqtt.mqtt.protocol.broker_handler import BrokerProtocolHandler
from amqtt.plugins.base import BaseAuthPlugin, BaseTopicPlugin
from amqtt.session import OutgoingApplicationMessage, Session
from cryptography import x509

from fleet_contract import limits, topics
from fleet_server.mqtt.listener import Listener
from fleet_server.trust.device_ca import SERVER_IDENTITY, WORKER_IDENTITIES

log = logging.getLogger(__name__)

MAX_PACKET_BYTES = limits.MAX_MQTT_PACKET_BYTES
_MAX_UNDELIVERED = 200
_MAX_UNACKNOWLEDGED = 2_000
_MAX_UNACKNOWLEDGED_SHARED = 64
"""Packets are large, and a device that is slower than its pass asks for what it missed."""
_KEEPALIVE_GRACE = 1.5
"""MQTT 3.1.1, 3.1.2.10: a client is gone after one and a half keep-alives of silence."""
_LONGEST_KEEPALIVE_S = 120
_LONGEST_PROTOCOL_NAME = len("MQIsdp")


class PacketTooLarge(ConnectionAbortedError):
    """Not among the errors that amqtt takes for the end of a packet, so that it hangs up."""


def identity(tls: ssl.SSLObject | None) -> str | None:
    """The one common name of the verified client certificate."""
    certificate = tls.getpeercert() if tls else None
    subject = (certificate or {}).get("subject", ())
    common_names = [value for rdn in subject for key, value in rdn if key == "commonName"]
    return common_names[0] if len(common_names) == 1 else None


@dataclass(frozen=True)
class Gate:
    """Which certificates of the fleet open no connection: those of excluded devices, and the revoked ones by serial number."""

    excluded: frozenset[str] = frozenset()
    revoked: frozenset[int] = frozenset()

    def admits(self, tls: ssl.SSLObject | None) -> bool:
        certificate = tls.getpeercert() if tls else None
        return bool(certificate) and identity(tls) not in self.excluded and int(certificate["serialNumber"], 16) not in self.revoked


def gate_of(listener: Listener) -> Gate:
    """Raises OSError and ValueError for a list of revoked certificates that cannot be read."""
    if listener.crl is None:
        return Gate(frozenset(listener.excluded))
    crl = x509.load_pem_x509_crl(Path(listener.crl).read_bytes())
    return Gate(frozenset(listener.excluded), frozenset(revoked.serial_number for revoked in crl))


def may(name: str | None, topic: str, *, write: bool) -> bool:
    if name in WORKER_IDENTITIES:
        return topics.worker_may(topic, write=write)
    return name == SERVER_IDENTITY or (name is not None and topics.device_may(name, topic, write=write))


class CertificateAuth(BaseAuthPlugin):
    """Lets in who has a certificate of the fleet's CA, and whose last will it could publish itself."""

    async def authenticate(self, *, session: Session) -> bool | None:
        name = identity(session.ssl_object)
        if name is None or session.client_id != name:
            return False
        return not session.will_flag or may(name, session.will_topic or "", write=True)


class TopicAccess(BaseTopicPlugin):
    """Confines a device to its own topics, whatever client id or user name it gives."""

    async def topic_filtering(
        self, *, session: Session | None = None, topic: str | None = None, action: Action | None = None
    ) -> bool | None:
        if session is None or not topic:
            return False
        return may(identity(session.ssl_object), topic, write=action == Action.PUBLISH)


class BoundedReader(StreamReaderAdapter):
    """Reads no packet above the limit, and no further packet while the session's earlier ones wait."""

    def __init__(self, reader: asyncio.StreamReader) -> None:
        super().__init__(reader)
        self.session: Session | None = None
        self._ahead = b""

    async def peek_protocol_level(self) -> int:
        """The level byte of a CONNECT: 4 is MQTT 3.1.1, 5 is MQTT 5. Nothing is consumed. Raises ValueError when this is no CONNECT."""
        begin = await super().read(2)
        while begin[-1] & 0x80 and len(begin) < 5:
            begin += await super().read(1)
        if begin[0] != CONNECT << 4:
            raise ValueError("the first packet is no CONNECT")
        begin += await super().read(2)
        name_bytes = int.from_bytes(begin[-2:], "big")
        if name_bytes > _LONGEST_PROTOCOL_NAME:
            raise ValueError(f"a protocol name of {name_bytes} bytes")
        self._ahead = begin + await super().read(name_bytes + 1)
        return self._ahead[-1]

    async def read(self, n: int = -1) -> bytes:
        if n < 0 or n > MAX_PACKET_BYTES:
            raise PacketTooLarge(f"a packet of {n} bytes, at most {MAX_PACKET_BYTES}")
        while self.session and self.session.delivered_message_queue.qsize() > _MAX_UNDELIVERED:
            await asyncio.sleep(0.01)
        ahead, self._ahead = self._ahead[:n], self._ahead[n:]
        return ahead + await super().read(n - len(ahead)) if len(ahead) < n else ahead


class FleetHandler(BrokerProtocolHandler):
    """amqtt's handler, but it hangs up on a silent client and drops what a slow one leaves lying (devices repeat what was not acknowledged)."""

    def attach(self, session: Session, reader, writer) -> None:
        session.keep_alive = math.ceil(min(session.keep_alive or _LONGEST_KEEPALIVE_S, _LONGEST_KEEPALIVE_S) * _KEEPALIVE_GRACE)
        reader.session = session
        super().attach(session, reader, writer)

    def handle_read_timeout(self) -> None:
        if self.reader is not None:
            self.reader.feed_eof()

    async def mqtt_publish(self, topic: str, data: bytes | bytearray, qos: int | None, retain: bool, ack_timeout: int | None = None):
        most = _MAX_UNACKNOWLEDGED_SHARED if topics.is_shared(topic) else _MAX_UNACKNOWLEDGED
        if self.session is not None and self.session.inflight_out_count >= most:
            log.warning("%s acknowledges too slowly: a message was dropped", self.session.client_id)
            return OutgoingApplicationMessage(None, topic, qos, data, retain)
        return await super().mqtt_publish(topic, data, qos, retain, ack_timeout)
