"""What the devices of one process know of bundles: the reference that their sketches are drawn from, read once by whoever fetched it first."""

from fleet_contract.bundle import Bundle
from fleet_contract.errors import ContractError
from fleet_contract.sketch import decode_reference
from hil.virtual_fleet.fetching import Fetch
from hil.virtual_fleet.recording import Stream


class Library:
    """By the bundles' digests."""

    def __init__(self) -> None:
        self._streams: dict[str, Stream | None] = {}

    def lacks(self, sha256: str) -> bool:
        return sha256 not in self._streams

    def stream(self, sha256: str | None) -> Stream | None:
        return self._streams.get(sha256) if sha256 else None

    def keep(self, fetch: Fetch) -> None:
        """A bundle without a usable reference has no sketches."""
        if fetch.data and self.lacks(fetch.order.sha256):
            try:
                bundle = Bundle(b"".join(fetch.data))
                self._streams[bundle.sha256] = Stream(decode_reference(bundle.read(bundle.manifest.reference)))
            except ContractError:
                self._streams[fetch.order.sha256] = None
        fetch.data.clear()
