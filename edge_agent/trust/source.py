"""Metadata files from the repository, whatever carries them: each under its role's bound, all of one run under one deadline."""

from urllib.parse import quote

from edge_agent.delivery.ports import FileFetcher
from edge_agent.errors import Missing, Reject, Retry
from edge_agent.ports import Clock
from fleet_contract import limits

_RUN_S = 300.0
_MAX_BYTES = {
    "root": limits.MAX_ROOT_METADATA_BYTES,
    "timestamp": limits.MAX_TIMESTAMP_METADATA_BYTES,
    "snapshot": limits.MAX_SNAPSHOT_METADATA_BYTES,
}


class MetadataSource:
    """For one run of the workflow. A single read is bounded in time by the carrier (delivery.ports.FileFetcher.read), a chain of them here."""

    def __init__(self, files: FileFetcher, clock: Clock, run_s: float = _RUN_S) -> None:
        self._files, self._clock = files, clock
        self._run_s, self._end_s = run_s, clock.monotonic_s() + run_s

    def read(self, role: str, version: int | None = None, length: int | None = None) -> bytes:
        """`length` is what signed metadata says of the file. Raises Retry; Missing too, which the end of the chain of roots is told by."""
        if self._clock.monotonic_s() >= self._end_s:
            raise Retry(f"metadata: the run took longer than {self._run_s:.0f} s", code="deadline")
        most = _MAX_BYTES.get(role, limits.MAX_METADATA_BYTES)
        name = f"{quote(role, '')}.json" if version is None else f"{version}.{quote(role, '')}.json"
        try:
            data = self._files.read(f"metadata/{name}", most if length is None else min(most, length))
        except Missing:
            raise
        except Reject as error:
            raise Retry(f"metadata: {error}", code=error.code) from error
        return data
