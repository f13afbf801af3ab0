"""The broker for machines without Mosquitto: amqtt (MQTT 3.1.1) in a process of its own, with the fleet's mTLS and ACL.

    python -m fleet_server.mqtt.embedded LISTENER.json

amqtt leaves gaps that matter with devices that do not trust each other; FleetBroker closes them (each override says which).
"""

import asyncio
import contextlib
import logging
import signal
import ssl
import struct
import sys
from pathlib import Path

import msgspec
from amqtt.adapters import StreamWriterAdapter, WriterAdapter
from amqtt.broker import Broker
from amqtt.contexts import ListenerConfig
from amqtt.errors import AMQTTError, BrokerError, MQTTError, NoDataError
from amqtt.mqtt.connack import NOT_AUTHORIZED, UNACCEPTABLE_PROTOCOL_VERSION, ConnackPacket
from amqtt.session import Session

from fleet_server.mqtt.embedded_access import BoundedReader, FleetHandler, Gate, gate_of, identity, may
from fleet_server.mqtt.listener import Listener

log = logging.getLogger(__name__)

_HANDSHAKE_TIMEOUT_S = 10.0
_MQTT_311 = 4
_PLUGINS = {"fleet_server.mqtt.embedded_access.CertificateAuth": {}, "fleet_server.mqtt.embedded_access.TopicAccess": {}}
_NO_CONNECT = (MQTTError, AMQTTError, NoDataError, EOFError, OSError, TimeoutError, ValueError, IndexError, TypeError, struct.error)
"""What amqtt's reader raises on bytes that are no CONNECT."""


class FleetBroker(Broker):
    """amqtt's broker, where a session is named by its certificate alone, and the gate decides which certificates open one."""

    gate = Gate()

    async def shut(self, gate: Gate) -> None:
        """From now on `gate` decides; sessions that it would not have opened end."""
        self.gate = gate
        for name, (session, _) in [*self._sessions.items()]:
            if not gate.admits(session.ssl_object):
                await self._take_over(name)

    @staticmethod
    def _create_ssl_context(listener: ListenerConfig) -> ssl.SSLContext:
        """amqtt asks for a client certificate but does not insist."""
        context = Broker._create_ssl_context(listener)
        context.verify_mode = ssl.CERT_REQUIRED
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        return context

    async def stream_connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, listener_name: str) -> None:
        """amqtt reads packets of any length."""
        await self._client_connected(listener_name, BoundedReader(reader), StreamWriterAdapter(writer))

    async def _initialize_client_session(
        self, reader: BoundedReader, writer: WriterAdapter, remote_address: str, remote_port: int
    ) -> tuple[FleetHandler, Session]:
        """amqtt hands a stored session, its certificate included, to whoever names its client id, and lets an earlier connection of a client live on."""
        try:
            handler, session = await asyncio.wait_for(self._read_connect(reader, writer), _HANDSHAKE_TIMEOUT_S)
            name = identity(session.ssl_object)
            if (
                name is None
                or not self.gate.admits(session.ssl_object)
                or (session.will_flag and not may(name, session.will_topic or "", write=True))
            ):
                log.warning(
                    "%s at %s:%d is refused: no identity, an excluded one, or a last will on a topic of others",
                    name,
                    remote_address,
                    remote_port,
                )
                await ConnackPacket.build(0, NOT_AUTHORIZED).to_stream(writer)
                raise MQTTError("not authorised")
        except _NO_CONNECT as error:
            with contextlib.suppress(OSError):
                await writer.close()
            raise MQTTError(f"{remote_address}:{remote_port} did not connect: {error!r}") from error
        session.client_id, session.clean_session, session.parent = name, True, 0
        await self._take_over(name)
        return handler, session

    async def _read_connect(self, reader: BoundedReader, writer: WriterAdapter) -> tuple[FleetHandler, Session]:
        """amqtt waits for ever on a CONNECT of MQTT 5, which it reads as one of 3.1.1; an answer lets the client try the older one at once."""
        level = await reader.peek_protocol_level()
        if level != _MQTT_311:
            await ConnackPacket.build(0, UNACCEPTABLE_PROTOCOL_VERSION).to_stream(writer)
            raise MQTTError(f"protocol level {level} is not spoken")
        return await FleetHandler.init_from_connect(reader, writer, self.plugins_manager)

    async def _take_over(self, name: str) -> None:
        session, handler = self._sessions.get(name, (None, None))
        if session is not None and session.transitions.is_connected():
            await handler.handle_connection_closed()
            await handler.stop()
        await self._delete_session(name)

    async def _client_message_loop(self, client_session: Session, handler: FleetHandler) -> None:
        """amqtt stops listening after an illegal topic, but leaves the connection open and filling its queue."""
        await super()._client_message_loop(client_session, handler)
        await self._stop_handler(handler)
        client_session.transitions.disconnect()

    async def _publish_retained_messages_for_subscription(self, subscription: tuple[str, int], session: Session) -> None:
        """amqtt sends a connecting client the retained messages of everybody's subscriptions, unasked and unchecked."""
        mine = any(owner is session for owner, _ in self._subscriptions.get(subscription[0], []))
        if mine and may(identity(session.ssl_object), subscription[0], write=False):
            await super()._publish_retained_messages_for_subscription(subscription, session)


async def serve(file: Path, listener: Listener) -> None:
    """Run until SIGTERM or SIGINT; SIGHUP reads whom to keep out from the file anew. Raises amqtt.errors.BrokerError when it cannot listen."""
    tls = {"cafile": listener.ca, "certfile": listener.certificate, "keyfile": listener.key}
    bind = {"type": "tcp", "bind": f"{listener.address}:{listener.port}", "ssl": True, "max_connections": 10_000, **tls}
    broker = FleetBroker({"listeners": {"default": bind}, "plugins": _PLUGINS})
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    changed = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, changed.set)
    await broker.shut(gate_of(listener))
    await broker.start()
    following = asyncio.create_task(_follow(broker, file, changed))
    await stop.wait()
    following.cancel()
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(broker.shutdown(), 5)


async def _follow(broker: FleetBroker, file: Path, changed: asyncio.Event) -> None:
    while await changed.wait():
        changed.clear()
        try:
            await broker.shut(gate_of(_read(file)))
        except (OSError, ValueError) as error:
            log.error("%s: whom to keep out is as it was: %s", file, error)


def _read(file: Path) -> Listener:
    return msgspec.json.decode(file.read_bytes(), type=Listener)


def main() -> None:
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    logging.getLogger("amqtt").setLevel(logging.ERROR)
    file = Path(sys.argv[1])
    listener = _read(file)
    try:
        asyncio.run(serve(file, listener))
    except BrokerError as error:
        sys.exit(
            f"cannot listen on {listener.address}:{listener.port} with the certificate {listener.certificate} and the key {listener.key}: {error}"
        )


if __name__ == "__main__":
    main()
