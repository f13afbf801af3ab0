"""Blocks by MQTT for this device alone: one request in flight, of no more blocks than may be in flight; and small files whole."""

import logging
import random
from collections import deque
from collections.abc import Callable, Iterator
from typing import Literal

from edge_agent.delivery.exchange import Answer, Exchange, refused, want
from edge_agent.delivery.transport import Errand, Patience
from edge_agent.errors import Reject, Retry
from fleet_contract import limits, packets
from fleet_contract.backoff import Backoff
from fleet_contract.errors import BadBlocks
from fleet_contract.messages import Packet, Refusal

log = logging.getLogger(__name__)

_FIRST_BLOCKS = 8
_TURN_S = 1.0


class OneToOne:
    """A transport. Also delivery.ports.FileFetcher, for metadata."""

    way: Literal["mqtt"] = "mqtt"

    def __init__(
        self,
        exchange: Exchange,
        *,
        patience: Patience = Patience(),
        backoff: Backoff = Backoff(),
        uniform: Callable[[], float] = random.random,
    ) -> None:
        self._exchange, self._patience, self._backoff, self._uniform = exchange, patience, backoff, uniform

    def carry(self, errand: Errand) -> Iterator[tuple[int, bytes] | None]:
        most = errand.pacer.manners.blocks_at_once(errand.block_bytes, limits.MAX_BLOCKS_PER_REQUEST)
        at_once, failures = min(_FIRST_BLOCKS, most), 0
        while errand.need:
            numbers = deque(sorted(errand.need))
            while numbers:
                before, asked_s = len(errand.need), self._exchange.monotonic_s() - errand.pacer.rested_s
                errand.pacer.before_request()
                yield from self._window(errand, [numbers.popleft() for _ in range(min(at_once, len(numbers)))])
                at_once = resized(at_once, self._exchange.monotonic_s() - errand.pacer.rested_s - asked_s, most)
                failures = 0 if len(errand.need) < before else failures + 1
                if failures >= self._patience.failures:
                    raise Retry(f"{errand.path}: {failures} requests in a row brought no right block", code="deadline")
                if failures:
                    errand.pacer.rest(self._backoff.wait_s(failures, self._uniform))

    def read(self, path: str, max_bytes: int) -> bytes:
        """Raises Retry, Missing or Reject (too-large)."""
        deadline_s = self._exchange.monotonic_s() + self._patience.file_s
        parts: dict[int, bytes] = {}
        length, count = None, 1
        failures = 0
        while len(parts) < count:
            numbers = [number for number in range(count) if number not in parts][: limits.MAX_BLOCKS_PER_REQUEST]
            for found in self._answers(path, limits.MAX_BLOCK_BYTES, numbers):
                if self._exchange.monotonic_s() >= deadline_s:
                    raise Retry(f"{path} did not come within {self._patience.file_s:g} s", code="deadline")
                if found is not None:
                    packet_length, number, data = found
                    length = _same(path, length, packet_length, max_bytes)
                    parts[number] = data
            failures = 0 if any(number in parts for number in numbers) else failures + 1
            if failures >= self._patience.failures:
                raise Retry(f"the server sends nothing of {path}", code="deadline")
            count = max(1, -(-(length or 0) // limits.MAX_BLOCK_BYTES))
        return b"".join(parts[number] for number in range(count))

    def _window(self, errand: Errand, numbers: list[int]) -> Iterator[tuple[int, bytes] | None]:
        for found in self._answers(errand.path, errand.block_bytes, numbers):
            yield None if found is None else found[1:]

    def _answers(self, path: str, block_bytes: int, numbers: list[int]) -> Iterator[tuple[int, int, bytes] | None]:
        """One request; (length of the file, number, bytes) until all have come or silence falls."""
        waiting = set(numbers)
        with self._exchange.open() as mailbox:
            self._exchange.send(want(mailbox.request, path, block_bytes, waiting))
            heard_s = self._exchange.monotonic_s()
            while waiting:
                letter = self._exchange.next(mailbox)
                if isinstance(letter, Refusal):
                    raise refused(path, letter)
                for length, number, data in blocks_in(letter, block_bytes):
                    if number in waiting:
                        waiting.discard(number)
                        heard_s = self._exchange.monotonic_s()
                        yield length, number, data
                if self._exchange.monotonic_s() - heard_s > self._patience.silence_s:
                    return
                yield None


def resized(at_once: int, took_s: float, most: int) -> int:
    """How many blocks to ask for next: so many that their answer takes about a second, because the server's acknowledgements of records come behind it."""
    if took_s > 2 * _TURN_S:
        return max(1, at_once // 2)
    return min(most, 2 * at_once) if took_s < _TURN_S / 2 else at_once


def blocks_in(letter: Answer | None, block_bytes: int) -> list[tuple[int, int, bytes]]:
    """(length of the file, number, bytes) of each block in it; nothing of what is no sound packet."""
    if not isinstance(letter, Packet):
        return []
    try:
        return [(letter.length, number, data) for number, data in packets.unpack(letter, block_bytes)]
    except BadBlocks as error:
        log.info("a packet is ignored: %s", error)
        return []


def _same(path: str, length: int | None, found: int, max_bytes: int) -> int:
    if found > max_bytes:
        raise Reject(f"{path} has {found} bytes, at most {max_bytes}", code="too-large")
    if length not in (None, found):
        raise Retry(f"{path} changed while it was read", code="changed")
    return found
