"""What a person beside the device asks of it, with or without the agent running: a file for each wish, which goes when the wish is granted."""

from pathlib import Path

from edge_agent.errors import Retry
from edge_agent.storage import atomic

ROLLBACK, PARDON = "rollback", "pardon"
"""Go back to the previous bundle; forget which bundles have shown themselves bad here."""


class Requests:
    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def ask(self, wish: str) -> None:
        """Raises Retry (disk)."""
        try:
            atomic.write(self._path(wish), b"")
        except OSError as error:
            raise Retry(f"{self._path(wish)}: {error}", code="disk") from error

    def asked(self, wish: str) -> bool:
        return self._path(wish).exists()

    def granted(self, wish: str) -> None:
        """It does not come again, even if power fails. Raises Retry (disk)."""
        try:
            self._path(wish).unlink(missing_ok=True)
            atomic.sync_folder(self._folder)
        except OSError as error:
            raise Retry(f"{self._path(wish)}: {error}", code="disk") from error

    def _path(self, wish: str) -> Path:
        return self._folder / f"{wish}.request"
