"""Whether a delta is worth its bytes, and making the file with it."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from edge_agent.delivery import reuse
from edge_agent.delivery.part import Part
from edge_agent.delivery.ports import Held, Target
from edge_agent.errors import AgentError
from fleet_contract import delta, limits
from fleet_contract.errors import ContractError

log = logging.getLogger(__name__)

_WORTH = 0.9
"""A delta is fetched when it is at most so much of what would be fetched without it."""


@dataclass(frozen=True)
class Chosen:
    base: Held
    target: Target


def choose(target: Target, held: Sequence[Held], lacking_bytes: int, look_up: Callable[[str], Target]) -> Chosen | None:
    """The smallest delta that is worth it against a base whose digest still holds; None when there is none.
    `look_up` finds a signed target; what it cannot find now is as if it were not there."""
    found = []
    for base in held:
        if base.sha256 in target.deltas:
            try:
                found.append(Chosen(base, look_up(target.deltas[base.sha256])))
            except AgentError as error:
                log.info("no delta from %s: %s", base.sha256[:12], error)
    worth = [chosen for chosen in found if chosen.target.length <= min(_WORTH * lacking_bytes, limits.MAX_DELTA_BYTES)]
    for chosen in sorted(worth, key=lambda chosen: chosen.target.length):
        if reuse.has_digest(chosen.base):
            return chosen
    return None


def apply(base: Path, patch: Path, part: Part) -> bool:
    """Keep every right block of what the delta makes; whether that was all. Raises OSError."""
    try:
        delta.apply(base, patch, _Blocks(part), part.index.length)
    except ContractError as error:
        log.warning("the delta does not apply: %s", error)
    return not part.need


class _Blocks:
    """A file that is written from its beginning to its end, and kept as far as its blocks are right."""

    def __init__(self, part: Part) -> None:
        self._part = part
        self._number = 0
        self._pending = bytearray()

    def write(self, data: bytes) -> int:
        self._pending += data
        index = self._part.index
        while self._number < index.count and len(self._pending) >= index.span(self._number)[1]:
            length = index.span(self._number)[1]
            self._part.write(self._number, bytes(self._pending[:length]))
            del self._pending[:length]
            self._number += 1
        return len(data)
