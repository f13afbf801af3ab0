"""A server, its broker included, that answers a device's requests as an attacker likes."""

import hashlib
from collections.abc import Callable, Iterable

from edge_agent.errors import Retry
from fleet_contract import blocks, packets
from fleet_contract.messages import FromDevice, Packet, Progress, Refusal, Url, Want, WantUrl

Answer = Packet | Refusal | Url
Twist = Callable[[Want, list[Answer]], Iterable[Answer]]


def honest(want: Want, answers: list[Answer]) -> Iterable[Answer]:
    return answers


class HostileServer:
    """Implements ports.Link over `files`; `hear` is where answers go. `twist` may change what answers a Want, and `url` what answers a WantUrl."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files = files
        self.connected = True
        self.twist: Twist = honest
        self.url: Callable[[WantUrl], Answer] = lambda wish: Refusal(wish.request, "no-http", "there is no HTTPS here")
        self.hear: Callable[[Answer], None] = lambda answer: None
        self.wants: list[Want] = []

    def send(self, message: FromDevice) -> None:
        if not self.connected:
            raise Retry("not connected", code="offline")
        if isinstance(message, Want):
            self.wants.append(message)
            for answer in self.twist(message, self._answers(message)):
                self.hear(answer)
        elif isinstance(message, WantUrl):
            self.hear(self.url(message))
        elif not isinstance(message, Progress):
            raise TypeError(type(message))

    def subscribe(self, topic: str) -> None: ...

    def unsubscribe(self, topic: str) -> None: ...

    def asked(self) -> set[str]:
        return {want.path for want in self.wants}

    def _answers(self, want: Want) -> list[Answer]:
        data = self.files.get(want.path)
        if data is None:
            return [Refusal(want.request, "not-found", "no such file")]
        size = want.block_bytes
        count = max(1, -(-len(data) // size))
        numbers = [number for number in blocks.from_bitmap(want.need) if number < count]
        return [*packets.pack(want.request, len(data), size, ((n, data[n * size : (n + 1) * size]) for n in numbers))]


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
