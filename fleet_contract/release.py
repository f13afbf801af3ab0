"""What the signed repository says of a bundle: TUF role names, and the `custom` of a target."""

from typing import Annotated

import msgspec

from fleet_contract import blocks, limits
from fleet_contract.blocks import BlockIndex
from fleet_contract.errors import BadBlocks

RELEASES = "releases"
"""Delegated by targets: signs bundles and deltas, `bundles/*`."""
ORDERS = "orders"
"""Delegated by targets: its keys sign orders. Never has metadata of its own."""
SIGNED_AT = "x-edgefleet-signed-at"
"""Of the timestamp role: when the server signed it (RFC 3339, UTC). A floor for clocks."""

_Sha256 = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]


class Delta(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`path` is the target path of a delta that makes this bundle from the bundle with the digest `base`."""

    base: _Sha256
    path: str


class Release(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Of a bundle's target."""

    task: str
    version: str
    deltas: Annotated[list[Delta], msgspec.Meta(max_length=limits.MAX_DELTAS_PER_RELEASE)] = []


def to_custom(index: BlockIndex, release: Release | None = None) -> dict:
    """The JSON form in a target's `custom`; without a release it is a delta's."""
    return blocks.to_custom(index) | ({} if release is None else {"edgefleet": msgspec.to_builtins(release)})


def release_of(custom: object) -> Release:
    """Raises BadBlocks when the signed target does not say what it is."""
    try:
        return msgspec.convert(custom["edgefleet"], Release)  # type: ignore[index]
    except (KeyError, TypeError, msgspec.ValidationError) as error:
        raise BadBlocks(f"the signed target does not say what it is: {error}", field="custom") from error


def delta_path(target_path: str, base_sha256: str) -> str:
    """Beside the bundle, below the same delegated pattern."""
    return f"{target_path.removesuffix('.bundle')}.from-{base_sha256[:16]}.delta"
