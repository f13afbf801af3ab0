"""The keys that sign orders, as the server's metadata names them. A light device takes its word for it, over TLS to the fleet's CA: only a real
agent verifies TUF from its own root."""

import json

from hil.client import Client
from hil.errors import RigError

_ROLE = "orders"


def orders_keys(api: Client) -> list[str]:
    """Raw Ed25519 public keys in hex. Raises RigError."""
    try:
        snapshot = _signed(api, "timestamp.json")["meta"]["snapshot.json"]["version"]
        targets = _signed(api, f"{snapshot}.snapshot.json")["meta"]["targets.json"]["version"]
        delegations = _signed(api, f"{targets}.targets.json")["delegations"]
        role = next(role for role in delegations["roles"] if role["name"] == _ROLE)
        return [delegations["keys"][keyid]["keyval"]["public"] for keyid in role["keyids"]]
    except (KeyError, StopIteration, ValueError, TypeError) as error:
        raise RigError(f"the server's metadata name no {_ROLE} key: {error!r}") from error


def _signed(api: Client, name: str) -> dict:
    return json.loads(api.content(f"/tuf/{name}"))["signed"]
