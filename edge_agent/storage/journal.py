"""One frozen Struct in one file, replaced whole: what the agent was about to do when power failed."""

from pathlib import Path
from typing import Generic, TypeVar

import msgspec

from edge_agent.errors import Reject, Retry
from edge_agent.storage import atomic

T = TypeVar("T", bound=msgspec.Struct)


class Journal(Generic[T]):
    """`write` has returned: `read` gives that value, whatever happens to the power."""

    def __init__(self, path: Path, kind: type[T]) -> None:
        self._path = path
        self._decoder = msgspec.json.Decoder(kind)

    def read(self) -> T | None:
        """None when nothing was ever written. Raises Reject (damaged) or Retry (disk)."""
        try:
            return self._decoder.decode(self._path.read_bytes())
        except FileNotFoundError:
            return None
        except (ValueError, RecursionError) as error:
            raise Reject(f"{self._path} is damaged: {error}", code="damaged") from error
        except OSError as error:
            raise Retry(f"{self._path}: {error}", code="disk") from error

    def write(self, value: T) -> None:
        """Raises Retry (disk)."""
        try:
            atomic.write(self._path, msgspec.json.encode(value))
        except OSError as error:
            raise Retry(f"{self._path}: {error}", code="disk") from error

    def set_aside(self) -> Path:
        """Rename a damaged file out of the way; where to. Raises OSError."""
        aside = self._path.with_name(f"{self._path.name}.damaged")
        atomic.move(self._path, aside)
        return aside
