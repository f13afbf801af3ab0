"""The newest root that the holder of a key folder has seen: what is laid before him to sign must follow from it.

Otherwise whoever carries the folder of current metadata could slip keys of his own into a root, and have the holders sign its successor.
"""

from collections.abc import Sequence
from pathlib import Path

from tuf.api.metadata import Metadata, Root

from model_tools.errors import BadInput
from model_tools.keys.chain import ROOT, Chain, Need, parse, read
from model_tools.storage import write_whole

FILE = "trusted-root.json"


def trusted(folders: Sequence[Path], keys: Path) -> Chain:
    """What the folders hold, which is well signed and follows from what `keys` has seen. Raises BadInput."""
    found = read(*folders)
    check(found, keys)
    return found


def check(chain: Chain, keys: Path) -> None:
    """Raises BadInput unless `chain` is signed throughout and goes on from the root that `keys` knows, where it knows one."""
    chain.check()
    known = load(keys)
    if known is None:
        return
    newest, version = chain.root.signed.version, known.signed.version
    if newest < version:
        raise BadInput(f"root {newest} is older than root {version}, which {keys / FILE} has seen", field="current", code="rollback")
    if version in chain.roots and chain.roots[version].signed != known.signed:
        raise BadInput(f"root {version} is another than the one in {keys / FILE}", field="current", code="foreign-root")
    roots = {version: known}
    for step in range(version + 1, newest + 1):
        if step not in chain.roots:
            raise BadInput(f"{step}.root.json is missing between root {version}, which {keys} knows, and root {newest}", field="current")
        roots[step] = chain.roots[step]
        _follow(Chain(roots, chain.targets, chain.releases).needs(ROOT, step), step)


def check_genesis(chain: Chain, keys: Path) -> None:
    """Of metadata with nothing before it. Raises BadInput when `keys` has seen a root already, and not this one."""
    known = load(keys)
    if known is not None and chain.root.signed != known.signed:
        raise BadInput(
            f"{keys} has seen root {known.signed.version} already: give the metadata before this with --current",
            field="current",
            code="foreign-root",
        )


def advance(keys: Path, root: Metadata[Root]) -> None:
    """Remember a root that was checked, or signed here."""
    known = load(keys)
    if known is None or known.signed.version < root.signed.version:
        write_whole(keys / FILE, root.to_bytes(), 0o600)


def load(keys: Path) -> Metadata[Root] | None:
    """Raises BadInput when the file is there and is no root."""
    path = keys / FILE
    return parse(path.read_bytes(), ROOT) if path.exists() else None


def _follow(needs: list[Need], version: int) -> None:
    for need in needs:
        if need.missing:
            raise BadInput(
                f"root {version} does not follow: {need.by} demands {need.threshold} signatures", field="current", code="unsigned"
            )
