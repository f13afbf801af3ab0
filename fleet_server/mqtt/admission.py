"""Who may take part, as the MQTT side knows it: read from the database by the control loop, asked by every thread, told to a broker of ours."""

from collections.abc import Callable
from pathlib import Path

from fleet_server.ports import DeviceAuthority
from fleet_server.services.quarantine import Excluded
from fleet_server.storage import write_atomic

CRL_FILE = "revoked.pem"


class Admission:
    """`read` asks the database; `folder` is where a broker of ours finds the revoked certificates. Before the first `renew` nobody is kept out."""

    def __init__(self, read: Callable[[], Excluded], authority: DeviceAuthority, folder: Path) -> None:
        self._read, self._authority, self._folder = read, authority, folder
        self._excluded: Excluded | None = None

    def may(self, device: str) -> bool:
        return self._excluded is None or device not in self._excluded.devices

    def renew(self, exclude: Callable[[frozenset[str]], None]) -> None:
        """When the database says something new, write down the revoked certificates and tell the broker which devices to `exclude`.
        Raises OSError: then the next call tries again."""
        excluded = self._read()
        if excluded == self._excluded:
            return
        write_atomic(self._folder / CRL_FILE, self._authority.revocation_list(excluded.serials))
        exclude(excluded.devices)
        self._excluded = excluded
