"""A virtual device's way to its bundle: block after block, in order, each one hashed and let go, until the digest is that of the order."""

import hashlib
from dataclasses import dataclass, field

from fleet_contract import blocks, limits, packets
from fleet_contract.errors import BadBlocks
from fleet_contract.messages import Packet, Refusal, Want
from fleet_contract.order import Order


class WrongBundle(Exception):
    """The bytes that came are not those of the order."""


@dataclass
class Fetch:
    """Of one order. `keep`: hold the bytes, for whoever wants to read the bundle afterwards."""

    order: Order
    keep: bool = False
    data: list[bytes] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._block_bytes = blocks.block_bytes_for(self.order.length)
        self._count = -(-self.order.length // self._block_bytes)
        self._digest = hashlib.sha256()
        self._next = self._asked = self._turn = 0

    @property
    def request(self) -> str:
        return f"{self.order.counter}-{self._turn}"

    @property
    def done(self) -> bool:
        return self._next >= self._count

    def want(self) -> Want:
        """The next blocks; asked again after silence, it asks for what is missing of them."""
        self._turn += 1
        self._asked = min(self._count, self._next + limits.MAX_BLOCKS_PER_REQUEST)
        need = blocks.to_bitmap(range(self._next, self._asked), self._count)
        return Want(self.request, _stored(self.order), self._block_bytes, need)

    def take(self, answer: Packet | Refusal) -> bool:
        """Whether it is time to ask for more (or, with `done`, to end). Raises WrongBundle, and ConnectionRefusedError for a refusal."""
        if answer.request != self.request:
            return False
        if isinstance(answer, Refusal):
            raise ConnectionRefusedError(f"{answer.code}: {answer.reason}")
        try:
            found = packets.unpack(answer, self._block_bytes)
        except BadBlocks as error:
            raise WrongBundle(str(error)) from error
        for number, block in found:
            if number == self._next:
                self._digest.update(block)
                self._next += 1
                if self.keep:
                    self.data.append(block)
        if self.done and self._digest.hexdigest() != self.order.sha256:
            raise WrongBundle(f"the digest of {self.order.target_path} is not that of its order")
        return self._next >= self._asked


def _stored(order: Order) -> str:
    """Where a repository with consistent snapshots keeps a target (TUF 1.0.33, 6.2)."""
    folder, _, name = order.target_path.rpartition("/")
    return f"targets/{folder}/{order.sha256}.{name}"
