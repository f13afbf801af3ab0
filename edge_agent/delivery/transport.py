"""What every way to bring blocks has in common."""

from collections.abc import Iterator, Set
from dataclasses import dataclass
from typing import Literal, Protocol

from edge_agent.delivery.pacer import Pacer


@dataclass(frozen=True)
class Errand:
    """Blocks of the repository file `path` on its grid. `need` is live: whoever takes the blocks takes the right ones out of it."""

    path: str
    length: int
    block_bytes: int
    need: Set[int]
    pacer: Pacer


class Transport(Protocol):
    way: Literal["mqtt", "http"]

    def carry(self, errand: Errand) -> Iterator[tuple[int, bytes] | None]:
        """Blocks as they come, in any order, not compared with any digest; None when it only waited a moment.
        Ends when nothing is needed any more, or this way has no more to give. Raises Retry or Reject."""


@dataclass(frozen=True)
class Patience:
    """A request is repeated after `silence_s` without a wanted block, and given up after `failures` in a row that brought nothing right.
    A small file has `file_s` in all."""

    silence_s: float = 5.0
    failures: int = 3
    file_s: float = 60.0
