"""Signs deployment orders with the key that the targets role delegates to `orders`."""

from collections.abc import Callable, Collection

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from fleet_contract import order
from fleet_server.trust.keys import OnlineKeys


class Ed25519OrderKey:
    """Implements ports.OrderKey."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key
        self.keyid = order.keyid(key.public_key())

    def sign(self, unsigned: order.Order) -> bytes:
        return order.sign(unsigned, self._key)


class Ed25519OrderSigner:
    """Implements ports.OrderSigner. `trusted` are the TUF key ids that devices are told to trust with orders now."""

    def __init__(self, keys: OnlineKeys, trusted: Callable[[], Collection[str]]) -> None:
        self._keys, self._trusted = keys, trusted

    def key(self) -> Ed25519OrderKey:
        """Raises BadRequest when the key file cannot be used."""
        return Ed25519OrderKey(self._keys.key("orders", self._trusted()))
