"""Results as JSON lines in files that take turns."""

import os
from collections.abc import Sequence
from pathlib import Path

import msgspec

from edge_agent.errors import Retry
from edge_agent.storage import atomic
from fleet_contract.messages import Result

_encoder = msgspec.json.Encoder()


class RotatedLines:
    """Implements outlet.Writer. Whole lines only: one that a power cut tore is ended, one that a full disk tore is taken back. Not synced: results
    are durable in the outbox."""

    def __init__(self, path: Path, max_bytes: int, files: int) -> None:
        self._path, self._max_bytes, self._files = path, max_bytes, files

    def write(self, results: Sequence[Result]) -> int:
        data = _encoder.encode_lines(results)
        try:
            self._rotate(len(data))
            self._append(data)
        except OSError as error:
            raise Retry(f"{self._path}: {error.strerror}", code="disk") from error
        return len(results)

    def close(self) -> None: ...

    def _append(self, data: bytes) -> None:
        handle = os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, atomic.PRIVATE_FILE)
        try:
            size = os.fstat(handle).st_size
            torn = size > 0 and os.pread(handle, 1, size - 1) != b"\n"
            whole = b"\n" + data if torn else data
            if os.write(handle, whole) < len(whole):
                os.ftruncate(handle, size)
                raise Retry(f"{self._path}: the disk is full", code="disk")
        finally:
            os.close(handle)

    def _rotate(self, more_bytes: int) -> None:
        size = self._path.stat().st_size if self._path.exists() else 0
        if not size or size + more_bytes <= self._max_bytes:
            return
        for number in range(self._files - 1, 0, -1):
            older = self._older(number - 1)
            if older.exists():
                older.replace(self._older(number))
        if self._files == 1:
            self._path.unlink()

    def _older(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{number}") if number else self._path
