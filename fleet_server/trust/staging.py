"""Files that belong together, put where one rename commits to all of them: after that they will be installed, however often the power goes."""

import shutil
from collections.abc import Mapping
from pathlib import Path

from fleet_server.storage import make_folder, sync_folder, write_atomic


class Staging:
    """`folder`/staged is filled, and renamed to `folder`/installing; that one is there until everything in it has reached its place."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._staged, self._installing = folder / "staged", folder / "installing"

    def commit(self, files: Mapping[str, bytes]) -> None:
        shutil.rmtree(self._staged, ignore_errors=True)
        make_folder(self._staged)
        for name, data in files.items():
            write_atomic(self._staged / name, data)
        self._staged.rename(self._installing)
        sync_folder(self._folder)

    def pending(self) -> dict[str, bytes]:
        """What is committed and not yet done; empty when nothing is."""
        if not self._installing.is_dir():
            return {}
        return {path.name: path.read_bytes() for path in sorted(self._installing.iterdir())}

    def done(self) -> None:
        """Forget it: one rename, and then what a crash may leave is nobody's."""
        shutil.rmtree(self._staged, ignore_errors=True)
        self._installing.rename(self._staged)
        sync_folder(self._folder)
        shutil.rmtree(self._staged, ignore_errors=True)
