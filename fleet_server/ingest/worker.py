"""The loop of an ingest worker: reads in gulps, hands over to the inbox, and acknowledges what is committed."""

import logging
import os
import random
import select
import threading
import time
from collections.abc import Callable

from fleet_contract import limits, messages, mqtt_packets, topics
from fleet_contract.backoff import Backoff
from fleet_contract.mqtt_packets import FromServer, Level, Publish, Suback
from fleet_contract.topics import Down, Up
from fleet_server.ingest.acks import merge
from fleet_server.ingest.committer import Committer
from fleet_server.ingest.intake import Group, Intake
from fleet_server.ingest.line import KEEPALIVE_S, Closed, Line, OtherLevel
from fleet_server.services.figures import IngestFigures

log = logging.getLogger(__name__)

_SHARE = "ingest"
_MAX_UNCOMMITTED_BYTES = 32 * limits.MIB
_MAX_UNSENT_BYTES = 8 * limits.MIB
_GULP_S = 0.01
"""A reader that wakes for each message slows the broker."""
_REFUSED = 0x80
_LOOK_MS = 1_000
_STEADY_S = 30.0
"""What ends sooner is a failed attempt."""
_MAX_TOPICS = 65_536

Dial = Callable[[Level], Line]


class Worker:
    """`run` and `stop` are of different threads. `figures` are written by `run` alone."""

    def __init__(
        self,
        dial: Dial,
        intake: Intake,
        committer: Callable[[Callable[[], None]], Committer],
        on_connected: Callable[[], None] = lambda: None,
        backoff: Backoff = Backoff(),
    ) -> None:
        """`committer` is made with what wakes the loop. `on_connected` is called in it whenever what is published from now on comes here."""
        self._on_connected = on_connected
        self._dial, self._intake, self._backoff = dial, intake, backoff
        self._bell: int | None = os.eventfd(0, os.EFD_NONBLOCK)
        self._ringing = threading.Lock()
        self._committer = committer(self._wake)
        self._closing = threading.Event()
        self._topics: dict[str, str] = {}
        self.figures = IngestFigures()
        self.connected = threading.Event()
        self._renewed = threading.Event()

    def run(self) -> None:
        """Until `stop`: connect, and when that ends, again."""
        self._committer.start()
        attempt = 0
        while not self._closing.is_set():
            began_s = time.monotonic()
            try:
                self._connect()
            except Exception as error:  # noqa: BLE001 - whatever one connection met, the next may do
                log.warning("the connection to the broker ended: %s: %s", type(error).__name__, error)
            attempt = 0 if time.monotonic() - began_s > _STEADY_S else attempt + 1
            self._closing.wait(self._backoff.wait_s(attempt, random.random))
        self._committer.close()
        with self._ringing:
            os.close(self._bell)
            self._bell = None

    def stop(self) -> None:
        self._closing.set()
        self._wake()

    def look_again(self) -> None:
        """It may be known now who was not, from any thread."""
        self._renewed.set()
        self._wake()

    def _wake(self) -> None:
        with self._ringing:
            if self._bell is not None:
                os.eventfd_write(self._bell, 1)

    def _connect(self) -> None:
        try:
            line = self._dial(Level.V5)
        except OtherLevel:
            line = self._dial(Level.V311)
        try:
            self._serve(line)
        finally:
            self.connected.clear()
            line.close()

    def _serve(self, line: Line) -> None:
        self._intake.aside()  # of an earlier connection, without a number here
        line.write(mqtt_packets.subscribe(1, [_filter(line)], level=line.level))
        turn = _Turns(line, self._bell)
        while not self._closing.is_set():
            full = self._committer.waiting_bytes > _MAX_UNCOMMITTED_BYTES or line.unsent_bytes > _MAX_UNSENT_BYTES
            if turn.wait(reading=not full):
                self._take(line, line.read())
            if self._renewed.is_set():
                self._renewed.clear()
                self._sort(line, self._intake.aside())
            line.write(self._answers(line))
        line.write(mqtt_packets.disconnect(line.level))

    def _take(self, line: Line, packets: list[FromServer]) -> None:
        arrived = []
        for packet in packets:
            if type(packet) is Publish:
                arrived.append(packet)
            elif type(packet) is Suback:
                if packet.codes[0] >= _REFUSED:
                    raise Closed("the broker refused the subscription: its ACL does not know this worker")
                log.info("connected, MQTT %s", "5" if line.level is Level.V5 else "3.1.1")
                self.connected.set()
                self._on_connected()
        self.figures.messages += len(arrived)
        self._sort(line, arrived)

    def _sort(self, line: Line, arrived: list[Publish]) -> None:
        if arrived:
            group, gone = self._intake.sort(arrived, time.monotonic())
            line.write(mqtt_packets.pubacks(gone))
            if group.numbers:
                self._committer.put(line, group)

    def _answers(self, line: Line) -> bytes:
        """To the broker, for its credit, and to the devices, so that they forget; messages that came on an earlier connection have no number here."""
        committed = self._committer.committed()
        if not committed:
            return b""
        numbers = [number for origin, group in committed if origin is line for number in group.numbers]
        self._count([group for _, group in committed])
        acks = [
            mqtt_packets.publish(self._topic(device), messages.encode(ack), level=line.level)
            for device, ack in merge(batch for _, group in committed for batch in group.batches)
        ]
        return b"".join((mqtt_packets.pubacks(numbers), *acks))

    def _topic(self, device: str) -> str:
        topic = self._topics.get(device)
        if topic is None:
            if len(self._topics) >= _MAX_TOPICS:
                self._topics.clear()
            topic = self._topics[device] = topics.down(device, Down.ACK)
        return topic

    def _count(self, groups: list[Group]) -> None:
        figures, now_s = self.figures, time.monotonic()
        figures.commits += 1
        for group in groups:
            figures.rows += group.rows
            figures.bytes += group.bytes
            figures.acknowledged.note(now_s - group.read_s, len(group.numbers))


class _Turns:
    """Waits for the broker or for a commit, pings, and notices a broker that has fallen silent."""

    def __init__(self, line: Line, bell: int) -> None:
        self._line, self._bell = line, bell
        self._all, self._bell_alone = select.poll(), select.poll()
        self._all.register(bell, select.POLLIN)
        self._bell_alone.register(bell, select.POLLIN)
        self._heard_s = self._pinged_s = self._read_s = time.monotonic()

    def wait(self, *, reading: bool) -> bool:
        """Whether there is something to read. Raises Closed."""
        if reading and time.monotonic() - self._read_s < _GULP_S:
            self._bell_alone.poll(_GULP_S * 1_000)
        self._all.register(self._line.socket, (select.POLLIN if reading else 0) | (select.POLLOUT if self._line.unsent_bytes else 0))
        events = dict(self._all.poll(_LOOK_MS))
        if self._bell in events:
            os.eventfd_read(self._bell)
        now_s = time.monotonic()
        self._look(now_s, reading)
        heard = events.get(self._line.socket.fileno(), 0)
        if heard & ~select.POLLOUT:
            self._heard_s = self._read_s = now_s
            return reading or bool(heard & (select.POLLERR | select.POLLHUP))
        return False

    def _look(self, now_s: float, reading: bool) -> None:
        if not reading:
            self._heard_s = now_s  # what it says waits with the rest
        if now_s - self._heard_s > 1.5 * KEEPALIVE_S:
            raise Closed("the broker has fallen silent")
        if now_s - self._pinged_s > KEEPALIVE_S / 2:
            self._pinged_s = now_s
            self._line.write(mqtt_packets.PINGREQ)


def _filter(line: Line) -> str:
    """A broker that cannot share gives every worker everything: there must be one."""
    records = topics.all_up(Up.RECORDS)
    return topics.shared_subscription(_SHARE, records) if line.level is Level.V5 and line.accepted.shares else records
