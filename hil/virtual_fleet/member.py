"""A virtual device on its connection: what comes is given to the device, what it says is packed and sent, under the conditions of the scenario."""

import random
from dataclasses import dataclass

from fleet_contract import mqtt_packets, topics
from fleet_contract.backoff import Backoff
from fleet_contract.errors import ContractError
from fleet_contract.mqtt_packets import Disconnect, FromServer, Puback, Publish
from hil.virtual_fleet.connection import Broken, Connection, Stage, hello
from hil.virtual_fleet.device import Now, VirtualDevice
from hil.virtual_fleet.gate import Gate
from hil.virtual_fleet.script import Conditions
from hil.virtual_fleet.tally import PhaseTally

KEEPALIVE_S = 60
_QUIET_S = KEEPALIVE_S * 0.7
_PATIENCE_S = 30.0
"""For a connection to come about."""
_HELD_BYTES = 32_768
_PACE_S = 0.05
_MAX_ANSWERS = 8
"""PUBACKs that wait for the next message to travel with: each would cost a TLS record of its own."""
_MAX_PACKET_ID = 65_535
_NEVER_S = float("inf")


@dataclass(frozen=True)
class Manner:
    """How it comes back after a break."""

    backoff: Backoff
    uniform: random.Random


class Member:
    def __init__(self, device: VirtualDevice, gate: Gate, manner: Manner, first_attempt_s: float) -> None:
        self.device, self._gate, self._manner = device, gate, manner
        self.connection: Connection | None = None
        self.conditions = Conditions()
        self.wake_s = _NEVER_S
        """When its reactor looks at it next."""
        self._attempt_s, self._attempt = first_attempt_s, 0
        self._deadline_s = _NEVER_S
        self._spoke_s = 0.0
        self._packet_id = self._unanswered = 0
        self._answers: list[int] = []

    @property
    def online(self) -> bool:
        return self.connection is not None and self.connection.stage is Stage.OPEN

    @property
    def opening(self) -> bool:
        return self.connection is not None and self.connection.stage is not Stage.OPEN

    @property
    def due_s(self) -> float:
        if self.connection is None:
            return min(self.device.due_s, self._attempt_s) if self.conditions.reachable else self.device.due_s
        return min(self.device.due_s, self._spoke_s + _QUIET_S if self.online else self._deadline_s)

    def wants_to_connect(self, now_s: float) -> bool:
        return self.connection is None and self.conditions.reachable and now_s >= self._attempt_s

    def postpone(self, until_s: float) -> None:
        self._attempt_s = until_s

    def under(self, conditions: Conditions, now_s: float, tally: PhaseTally) -> None:
        """From now on. An outage or one more storm breaks the connection."""
        storm = conditions.storms > self.conditions.storms
        self.conditions = conditions
        self.device.under(conditions)
        if self.connection is not None:
            self.connection.bytes_per_s = conditions.bytes_per_s
            if storm or not conditions.reachable:
                self.drop(now_s, tally)

    def connect(self, now: Now) -> None:
        """Begin an attempt. Raises Broken."""
        level = self._gate.level
        greeting = hello(self.device.id, topics.up(self.device.id, topics.Up.STATUS), self.device.will(now), KEEPALIVE_S, level)
        listen = mqtt_packets.subscribe(1, [topics.all_down(self.device.id)], level=level)
        self._attempt += 1
        self._deadline_s = now.monotonic_s + _PATIENCE_S
        self._unanswered = self._packet_id = 0
        self._answers.clear()
        self.connection = self._gate.open(self.device.id, greeting, listen)
        self.connection.bytes_per_s = self.conditions.bytes_per_s

    def advance(self, now: Now, tally: PhaseTally) -> None:
        """The socket is ready. Raises Broken."""
        connection = self._connected()
        was_open = self.online
        packets = connection.advance(now.monotonic_s)
        if self.online and not was_open:
            self._attempt = 0
            self._gate.assure()
            tally.connected += 1
            self.device.connected(now)
        for packet in packets:
            self._take(packet, now, tally)
        self._speak(b"", now, tally)

    def turn(self, now: Now, tally: PhaseTally) -> None:
        """What is due. Raises Broken."""
        self.device.turn(now, self.online)
        if self.opening and now.monotonic_s >= self._deadline_s:
            raise Broken("no connection came about in time")
        if self.online:
            ping = mqtt_packets.PINGREQ if now.monotonic_s >= self._spoke_s + _QUIET_S else b""
            self._speak(ping, now, tally)

    def drop(self, now_s: float, tally: PhaseTally, why: str = "") -> None:
        """Without a goodbye; the next attempt is drawn anew. `why` this one failed is counted where no connection had come about."""
        if why and not self.online:
            tally.failed[why] = tally.failed.get(why, 0) + 1
        if self.connection is not None:
            if self.connection.stage is Stage.GREETING:
                self._gate.doubt()
            tally.broken += self.online
            self.connection.close()
            self.connection = None
        self._attempt_s = now_s + self._manner.backoff.wait_s(self._attempt, self._manner.uniform.random)

    def leave(self) -> None:
        """In good order."""
        if self.connection is not None:
            self.connection.close(mqtt_packets.disconnect(self._gate.level))
            self.connection = None

    def paced_s(self, now_s: float) -> float:
        """When a slow link takes more; never, where nothing waits for it."""
        slow = self.connection is not None and self.connection.bytes_per_s is not None and self.connection.held
        return now_s + _PACE_S if slow else _NEVER_S

    def _connected(self) -> Connection:
        if self.connection is None:
            raise Broken("not connected")
        return self.connection

    def _take(self, packet: FromServer, now: Now, tally: PhaseTally) -> None:
        if isinstance(packet, Puback):
            self._unanswered -= 1
        elif isinstance(packet, Disconnect):
            raise Broken(f"the broker ended it: {packet.code:#04x}")
        elif isinstance(packet, Publish):
            if packet.packet_id:
                self._answers.append(packet.packet_id)
            if self._is_lost():
                tally.lost += 1
            else:
                self._hand_over(packet, now, tally)

    def _hand_over(self, packet: Publish, now: Now, tally: PhaseTally) -> None:
        try:
            landed = self.device.receive(packet.topic, packet.payload, now)
        except ContractError:
            tally.ignored += 1
            return
        for unit in landed:
            tally.landed += 1
            tally.acknowledged += unit.count
            tally.latency.add(now.monotonic_s - unit.sent_s)
            tally.age.add(now.monotonic_s - unit.made_s)

    def _speak(self, first: bytes, now: Now, tally: PhaseTally) -> None:
        connection = self._connected()
        silent = not (first or connection.held or len(self._answers) >= _MAX_ANSWERS or self.device.speaks(now))
        if silent or connection.stage is not Stage.OPEN:
            return
        room = connection.receive_maximum - self._unanswered if connection.held < _HELD_BYTES else 0
        said = [first] if first else []
        for message in self.device.outgoing(now, room):
            tally.messages += message.sends > 0
            tally.again += message.sends > 1
            if self._is_lost():
                tally.lost += 1
                continue
            said.append(self._packed(message.topic, message.payload, message.retain))
        if said or len(self._answers) >= _MAX_ANSWERS:
            said.append(mqtt_packets.pubacks(self._answers))
            self._answers.clear()
        if said or connection.held:
            data = b"".join(said)
            tally.bytes_out += len(data)
            self._spoke_s = now.monotonic_s
            connection.send(data, now.monotonic_s)

    def _packed(self, topic: str, payload: bytes, retain: bool) -> bytes:
        self._packet_id = self._packet_id % _MAX_PACKET_ID + 1
        self._unanswered += 1
        return mqtt_packets.publish(topic, payload, level=self._gate.level, packet_id=self._packet_id, retain=retain)

    def _is_lost(self) -> bool:
        return self.conditions.loss > 0 and self._manner.uniform.random() < self.conditions.loss
