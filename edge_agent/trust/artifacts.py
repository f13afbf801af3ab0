"""Whole targets by HTTP(S): staged on disk beside their final name, resumed, verified, and only then given that name."""

import os
from pathlib import Path
from urllib.parse import quote

from tuf.api.metadata import TargetFile

from edge_agent.errors import Reject, Retry
from edge_agent.link.https import Site
from edge_agent.storage import atomic
from edge_agent.trust import rules


class Artifacts:
    """`folder` holds one file for each target path, quoted; what is there and matches the metadata is not fetched again."""

    def __init__(self, folder: Path, site: Site) -> None:
        self._folder, self._site = folder, site

    def bring(self, target: TargetFile, *, by_digest: bool) -> Path:
        """Where the verified file lies. Raises Retry (also when what came does not match: it is thrown away) or Reject."""
        path = self._folder / quote(target.path, "")
        try:
            if path.is_file() and _holds(target, path):
                return path
            part = self._folder / f".{_digest(target)[:32]}.part"
            self._fetch(target, part, by_digest)
            if not _holds(target, part):
                part.unlink()
                raise Retry(f"{target.path}: what came is not what was signed", code="bad-digest")
            atomic.move(part, path)
        except OSError as error:
            raise Retry(f"{path}: {error}", code="disk") from error
        return path

    def _fetch(self, target: TargetFile, part: Path, by_digest: bool) -> None:
        folder, slash, name = target.path.rpartition("/")
        served = f"{folder}{slash}{_digest(target)}.{name}" if by_digest else target.path
        with part.open("ab") as file:
            if file.tell() < target.length:
                self._site.download(quote(served, "/"), file.write, max_bytes=target.length, have=file.tell())
            file.flush()
            os.fsync(file.fileno())


def _digest(target: TargetFile) -> str:
    """Any that the metadata gives: consistent snapshots have each."""
    digest = next(iter(target.hashes.values()), "")
    if not digest.isalnum():
        raise Reject(f"{target.path} has no digest", code="bad-digest")
    return digest


def _holds(target: TargetFile, path: Path) -> bool:
    with path.open("rb") as file:
        try:
            rules.check_content(target, file)
        except Retry:
            return False
    return True
