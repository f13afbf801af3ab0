"""Ten thousand devices that do nothing but take what is sent to them: `python -m bench.order_fanout.swarm FOLDER HOST PORT ORDERS_KEY...`.

Each answers an order whose signature holds with the status that tells of it, and anything else with its PUBACK alone. Says on its output when all
are connected, and when the first and when all have got one more order, or one more of the others.
"""

import select
import socket
import ssl
import sys
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from bench.fleet.stage import PROFILE
from bench.order_fanout.heard import BARE, CONNECTED, ORDERED, first
from fleet_contract import messages, mqtt_packets, topics
from fleet_contract.broker import Tls
from fleet_contract.messages import Lane, LaneLedger, Status
from fleet_contract.mqtt_packets import Level, Publish
from fleet_contract.order import Order, check, keyid, open_by
from fleet_contract.topics import Down, Up
from hil.virtual_fleet.connection import Connection, Stage, hello

_OPENING = 64
_KEEPALIVE_S = 110
_PING_S = 50.0


class Device:
    def __init__(self, name: str, context: ssl.SSLContext, address: tuple[str, int], keys: Mapping[str, Ed25519PublicKey]) -> None:
        greeting = hello(name, topics.up(name, Up.STATUS), messages.encode(_status(None)), _KEEPALIVE_S, Level.V5)
        listen = mqtt_packets.subscribe(1, [topics.all_down(name)], level=Level.V5)
        self.connection = Connection(address, context, "localhost", greeting, listen, Level.V5)
        self._name, self._keys = name, keys
        self._status_topic = topics.up(name, Up.STATUS)
        self._sent = self._counter = 0

    @property
    def open(self) -> bool:
        return self.connection.stage is Stage.OPEN

    def advance(self, now_s: float) -> Counter[str]:
        """What came, by kind."""
        came: Counter[str] = Counter()
        for packet in self.connection.advance(now_s):
            if isinstance(packet, Publish):
                came[self._answer(packet, now_s)] += 1
        return came

    def _answer(self, packet: Publish, now_s: float) -> str:
        answer = mqtt_packets.puback(packet.packet_id)
        is_order = packet.topic.endswith(Down.ORDER)
        if is_order:
            order = open_by(packet.payload, self._keys)[1]
            check(order, device=self._name, profile=PROFILE, now=datetime.now(UTC), newest_counter=self._counter)
            self._counter = order.counter
            self._sent = self._sent % 65_535 + 1
            said = messages.encode(_status(order))
            answer += mqtt_packets.publish(self._status_topic, said, level=Level.V5, packet_id=self._sent, retain=True)
        self.connection.send(answer, now_s)
        return ORDERED if is_order else BARE


class Swarm:
    def __init__(self, names: Iterable[str], folder: Path, address: tuple[str, int], keys: Mapping[str, Ed25519PublicKey]) -> None:
        self._waiting, self._folder, self._address, self._keys = [*names], folder, address, keys
        self._count = len(self._waiting)
        self._context = Tls(folder / "ca.pem", None, None).context()
        self._devices: dict[int, Device] = {}
        self._opening: set[int] = set()
        self._epoll = select.epoll()
        self._came: Counter[str] = Counter()

    def run(self) -> None:
        ping_s = time.monotonic() + _PING_S
        while True:
            self._open_more()
            for fd, _ in self._epoll.poll(1.0):
                self._serve(fd, time.monotonic())
            if time.monotonic() > ping_s:
                ping_s += _PING_S
                for device in self._devices.values():
                    if device.open:
                        device.connection.send(mqtt_packets.PINGREQ, time.monotonic())

    def _open_more(self) -> None:
        while self._waiting and len(self._opening) < _OPENING:
            name = self._waiting.pop()
            self._context.load_cert_chain(self._folder / f"{name}.pem")  # a connection keeps what was loaded when it began
            device = Device(name, self._context, self._address, self._keys)
            fd = device.connection.fd
            self._devices[fd] = device
            self._opening.add(fd)
            self._epoll.register(fd, device.connection.wants)

    def _serve(self, fd: int, now_s: float) -> None:
        device = self._devices[fd]
        wanted = device.connection.wants
        for kind, number in device.advance(now_s).items():
            self._tell(kind, number)
        if fd in self._opening and device.open:
            self._opening.remove(fd)
            self._tell(CONNECTED, 1)
        if device.connection.wants != wanted:
            self._epoll.modify(fd, device.connection.wants)

    def _tell(self, kind: str, number: int) -> None:
        turn, begun = divmod(self._came[kind], self._count)
        self._came[kind] += number
        if not begun:
            print(first(kind), flush=True)
        if self._came[kind] // self._count > turn:
            print(kind, flush=True)


def _status(order: Order | None) -> Status:
    """As an agent that works tells it, all four lanes."""
    ledger = {lane: LaneLedger(0, 0, 0, {}, 0) for lane in Lane}
    common = {"at": datetime.now(UTC), "epoch": "e1", "agent_version": "1", "profile": PROFILE, "ledger": ledger, "instance": "i1"}
    if order is None:
        return Status(online=False, **common)
    return Status(online=True, bundle=order.sha256, bundle_version="1", order_counter=order.counter, **common)


def _keys(raw: Iterable[str]) -> dict[str, Ed25519PublicKey]:
    keys = [Ed25519PublicKey.from_public_bytes(bytes.fromhex(each)) for each in raw]
    return {keyid(key): key for key in keys}


if __name__ == "__main__":
    place = Path(sys.argv[1])
    every = [path.stem for path in sorted(place.glob("virtual-*.pem"))]
    Swarm(every, place, (socket.gethostbyname(sys.argv[2]), int(sys.argv[3])), _keys(sys.argv[4:])).run()
