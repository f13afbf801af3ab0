"""What the outbox knows beside its units: one small row, committed with them."""

import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import msgspec

from edge_agent.outbox.lanes import LANES, LaneState

_CHECKSUM_BYTES = 4


class BadAccount(ValueError):
    """The bytes are not what was written."""


@dataclass(frozen=True)
class Account:
    """`lanes` are those of LANES; `notes` are the source's cursor and named marks. `record_bytes` were given since the epoch began, and
    `written_bytes` written to the disk for them."""

    epoch: str
    lanes: tuple[LaneState, ...] = (LaneState(),) * len(LANES)
    notes: Mapping[str, str] = field(default_factory=dict)
    record_bytes: int = 0
    written_bytes: int = 0

    @property
    def queued_bytes(self) -> int:
        return sum(state.queued_bytes for state in self.lanes)

    def with_lane(self, number: int, state: LaneState) -> "Account":
        return replace(self, lanes=(*self.lanes[:number], state, *self.lanes[number + 1 :]))


def encode(account: Account) -> bytes:
    body = msgspec.msgpack.encode(account)
    return zlib.crc32(body).to_bytes(_CHECKSUM_BYTES, "little") + body


def decode(data: bytes) -> Account:
    """Raises BadAccount."""
    body = data[_CHECKSUM_BYTES:]
    if zlib.crc32(body).to_bytes(_CHECKSUM_BYTES, "little") != data[:_CHECKSUM_BYTES]:
        raise BadAccount("the outbox's account does not fit its checksum")
    try:
        account = msgspec.msgpack.decode(body, type=Account)
    except msgspec.DecodeError as error:
        raise BadAccount(f"the outbox's account: {error}") from error
    if len(account.lanes) != len(LANES):
        raise BadAccount(f"the outbox's account has {len(account.lanes)} lanes")
    return account
