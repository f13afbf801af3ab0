"""Where the devices of one process connect: the broker's address, one TLS context for all, and the version that the broker speaks."""

import socket
import ssl
from pathlib import Path

from fleet_contract.broker import parse_url
from fleet_contract.mqtt_packets import Level
from hil.errors import RigError
from hil.virtual_fleet.connection import Broken, Connection


class Gate:
    def __init__(self, broker_url: str, ca: Path, identities: Path) -> None:
        """`identities`/ID.pem holds a device's key and certificate. Raises RigError when the broker's name means nothing."""
        self._host, port = parse_url(broker_url)
        self._identities = identities
        try:
            self._address = socket.getaddrinfo(self._host, port, socket.AF_INET, socket.SOCK_STREAM)[0][4]
            self._context = ssl.create_default_context(cafile=str(ca))
        except OSError as error:
            raise RigError(f"{broker_url}: {error}") from error
        self.level = Level.V5
        self._certain = False

    def open(self, device_id: str, hello: bytes, listen: bytes) -> Connection:
        """Raises Broken."""
        try:
            # a connection keeps the certificate that its context has when it is made; a context each would cost 30 KiB
            self._context.load_cert_chain(self._identities / f"{device_id}.pem")
        except OSError as error:
            raise Broken(f"no usable identity: {error}") from error
        return Connection(self._address, self._context, self._host, hello, listen, self.level)

    def assure(self) -> None:
        """The broker has accepted this version."""
        self._certain = True

    def doubt(self) -> None:
        """An attempt ended before it was accepted: perhaps the broker does not speak this version."""
        if not self._certain:
            self.level = Level.V311 if self.level is Level.V5 else Level.V5
