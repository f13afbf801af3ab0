"""online.json: the public keys that a fleet server makes and holds, as it hands them to whoever signs root and targets."""

from typing import Annotated

import msgspec

from fleet_contract import limits
from fleet_contract.errors import BadOnlineKeys

FILE = "online.json"
_Public = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]


class OnlineKeys(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Raw Ed25519 public keys in hex. Which one root or targets must name next: while a key is being rotated, the new one."""

    fleet: str
    snapshot: _Public
    timestamp: _Public
    orders: _Public


def encode(keys: OnlineKeys) -> bytes:
    return msgspec.json.format(msgspec.json.encode(keys), indent=2) + b"\n"


def decode(data: bytes) -> OnlineKeys:
    """Raises BadOnlineKeys."""
    if len(data) > limits.MAX_ONLINE_KEYS_BYTES:
        raise BadOnlineKeys(f"{FILE} of {len(data)} bytes", field=FILE, limit=limits.MAX_ONLINE_KEYS_BYTES)
    try:
        keys = msgspec.json.decode(data, type=OnlineKeys)
    except (ValueError, RecursionError) as error:
        raise BadOnlineKeys(f"{FILE} does not hold a fleet server's public keys: {error}", field=FILE) from error
    if len({keys.snapshot, keys.timestamp, keys.orders}) != 3:
        raise BadOnlineKeys(f"{FILE} names one key for two roles", field=FILE)
    return keys
