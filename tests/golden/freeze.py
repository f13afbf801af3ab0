"""Write the frozen bytes of new specimens: `python -m tests.golden.freeze`. A file that exists is never touched, unless it is named:
bytes in the field do not change with it, so naming one is for a new schema version or a specimen that no release has shipped."""

import sys
from pathlib import Path

from tests.golden.specimens import specimens

FOLDER = Path(__file__).parent / "v1"


def freeze(folder: Path, again: set[str]) -> list[str]:
    """The names written."""
    written = [name for name in specimens() if name in again or not (folder / name).exists()]
    for name in written:
        (folder / name).write_bytes(specimens()[name])
    return written


if __name__ == "__main__":
    sys.stdout.writelines(f"froze {name}\n" for name in freeze(FOLDER, {*sys.argv[1:]}))
