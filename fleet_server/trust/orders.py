"""Signs deployment orders with the key that the targets role delegates to `orders`."""

from pathlib import Path

from fleet_contract import order
from fleet_server.trust import keys


class Ed25519OrderSigner:
    """Implements ports.OrderSigner."""

    def __init__(self, key_file: Path) -> None:
        """Raises BadRequest when the key file cannot be used."""
        self._key = keys.load(key_file)

    def sign(self, unsigned: order.Order) -> bytes:
        return order.sign(unsigned, self._key)
