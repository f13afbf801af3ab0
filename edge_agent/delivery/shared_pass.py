"""Blocks by MQTT for all who want them at once: the server publishes each once, and each device keeps what it lacks."""

from collections.abc import Iterator
from typing import Literal

from edge_agent.delivery.exchange import Exchange, refused, want
from edge_agent.delivery.one_to_one import blocks_in
from edge_agent.delivery.transport import Errand, Patience
from fleet_contract import limits, topics
from fleet_contract.messages import Packet, Progress, Refusal

_LEFT = "pass-left"


class SharedPass:
    """A transport that may leave blocks over: for those there is one to one.

    While records wait too long it does not ask for more: the server, which knows no better than that this device is slow, soon lets it go on alone.
    """

    way: Literal["mqtt"] = "mqtt"

    def __init__(self, exchange: Exchange, *, patience: Patience = Patience(silence_s=3.0)) -> None:
        self._exchange, self._patience = exchange, patience

    def carry(self, errand: Errand) -> Iterator[tuple[int, bytes] | None]:
        errand.pacer.before_request()
        with self._exchange.open(topics.shared(errand.path, errand.block_bytes)) as mailbox:
            self._exchange.send(want(mailbox.request, errand.path, errand.block_bytes, set(errand.need), shared=True))
            credit = _Credit()
            heard_s = self._exchange.monotonic_s()
            while errand.need and self._exchange.monotonic_s() - heard_s <= self._patience.silence_s:
                letter = self._exchange.next(mailbox)
                if isinstance(letter, Refusal) and letter.code != _LEFT:
                    raise refused(errand.path, letter)
                if isinstance(letter, Refusal):
                    return
                found = [(number, data) for _, number, data in blocks_in(letter, errand.block_bytes)]
                yield from ((number, data) for number, data in found if number in errand.need)
                if found and isinstance(letter, Packet):
                    heard_s = self._exchange.monotonic_s()
                    credit.take(letter)
                if credit.due is not None and not errand.pacer.busy:
                    self._exchange.send(credit.due)
                    credit.due = None
                yield None


class _Credit:
    """Of one pass at a time; another begins anew. `due` is what the server has to be told, if anything."""

    def __init__(self) -> None:
        self._request, self._given = "", 0
        self.due: Progress | None = None

    def take(self, packet: Packet) -> None:
        """This packet is on the disk."""
        if packet.request != self._request:
            self._request, self._given = packet.request, 0
        full = (packet.sequence + 1) // limits.CREDIT_PACKETS
        if full > self._given:
            self._given, self.due = full, Progress(packet.request, packet.sequence)
