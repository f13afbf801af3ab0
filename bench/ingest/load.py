"""Devices that send batches as fast as they are acknowledged, all of them in one thread."""

import select
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import msgspec

from fleet_contract import messages, mqtt_packets, topics
from fleet_contract.messages import Ack, Batch
from fleet_contract.mqtt_packets import Level, Publish
from fleet_contract.topics import Down, Up
from fleet_server.ingest.line import Line

WINDOW_MESSAGES = 4_000
"""Of all devices together, sent and not acknowledged."""
_MOST_AT_ONCE = 50
_PATIENCE_S = 30.0


@dataclass
class Sender:
    """One device: its connection, and the numbers that it has given."""

    name: str
    line: Line
    epoch: str
    next: int = 0
    packet: int = 0
    topic: str = field(init=False)

    def __post_init__(self) -> None:
        self.topic = topics.up(self.name, Up.RECORDS)
        self.line.write(mqtt_packets.subscribe(1, [topics.down(self.name, Down.ACK)], level=Level.V5))

    def send(self, batch: Batch, count: int) -> None:
        wire = []
        for _ in range(count):
            self.packet = self.packet % 60_000 + 2
            message = msgspec.structs.replace(batch, epoch=self.epoch, first=self.next)
            self.next += batch.count
            wire.append(mqtt_packets.publish(self.topic, messages.encode(message), level=Level.V5, packet_id=self.packet))
        self.line.write(b"".join(wire))

    def read(self) -> int:
        """How many records were acknowledged."""
        rows, numbers = 0, []
        for packet in self.line.read():
            if type(packet) is Publish:
                ack = messages.decode_to_device(packet.payload)
                if isinstance(ack, Ack):
                    rows += sum(last - first + 1 for first, last in ack.ranges)
                if packet.packet_id:
                    numbers.append(packet.packet_id)
        self.line.write(mqtt_packets.pubacks(numbers))
        return rows


@dataclass(frozen=True)
class Sent:
    """`seconds` from the first message to the last acknowledgement."""

    messages: int
    seconds: float

    @property
    def rate(self) -> float:
        return self.messages / self.seconds


def drive(senders: Sequence[Sender], batches: Sequence[Batch], seconds: float, elsewhere: Callable[[], int] | None = None) -> Sent:
    """Send for so long, then wait for what is on its way. `elsewhere` counts the messages that arrived, where nobody acknowledges them.
    Raises TimeoutError when nothing comes for a while."""
    poll, rows = select.poll(), batches[0].count
    for sender in senders:
        poll.register(sender.line.socket, select.POLLIN)
    by_socket = {sender.line.socket.fileno(): sender for sender in senders}
    sent = done = acknowledged = turn = 0
    base = elsewhere() if elsewhere else 0
    begun_s = moved_s = time.perf_counter()
    while True:
        now_s = time.perf_counter()
        sending = now_s - begun_s < seconds
        if sending:
            sent += _fill(senders, batches, min(WINDOW_MESSAGES - (sent - done), WINDOW_MESSAGES), turn)
            turn += 1
        acknowledged += sum(by_socket[each].read() for each, _ in poll.poll(1))
        before, done = done, elsewhere() - base if elsewhere else acknowledged // rows
        moved_s = now_s if done > before else moved_s
        if done >= sent and not sending:
            return Sent(sent, time.perf_counter() - begun_s)
        if now_s - moved_s > _PATIENCE_S:
            raise TimeoutError(f"{sent - done} of {sent} messages were not acknowledged within {_PATIENCE_S} s")


def _fill(senders: Sequence[Sender], batches: Sequence[Batch], room: int, turn: int) -> int:
    """The senders take turns, so that each turn writes a few large pieces."""
    sent = 0
    for number in range(len(senders)):
        count = min(room - sent, _MOST_AT_ONCE)
        if count < _MOST_AT_ONCE:
            break
        senders[(turn + number) % len(senders)].send(batches[(turn + number) % len(batches)], count)
        sent += count
    for sender in senders:
        sender.line.flush()
    return sent
