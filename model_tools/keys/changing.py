"""The acts of the key holders, as drafts: ceremony, rotation, revocation, renewal. Key files are made here, metadata elsewhere."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from securesystemslib.signer import Key

from fleet_contract.online_keys import OnlineKeys
from fleet_contract.release import RELEASES
from model_tools.errors import BadInput
from model_tools.keys import metadata
from model_tools.keys.chain import ROOT, TARGETS, Chain, Draft
from model_tools.keys.metadata import Holders
from model_tools.keys.store import KeyStore, named

Make = Callable[[str], Key]
"""Makes the new offline key of this name, or takes the one that is there."""


@dataclass(frozen=True)
class Shape:
    """How many keys the offline roles get and how many of them sign."""

    root: int = 3
    root_threshold: int = 2
    releases: int = 1
    releases_threshold: int = 1


def ceremony(shape: Shape, online: OnlineKeys, make: Make, expires: datetime) -> Draft:
    """Version 1 of root, targets and releases. Raises BadInput."""
    wanted = {
        ROOT: ([f"{ROOT}-{number}" for number in range(1, shape.root + 1)], shape.root_threshold),
        TARGETS: ([TARGETS], 1),
        RELEASES: (_numbered(RELEASES, shape.releases), shape.releases_threshold),
    }
    for role, (names, threshold) in wanted.items():
        if not 1 <= threshold <= len(names):
            raise BadInput(f"{role} would need {threshold} signatures of {len(names)} keys", field="threshold", limit=len(names))
    holders = {role: Holders([make(name) for name in names], threshold) for role, (names, threshold) in wanted.items()}
    holders |= {role: Holders([key]) for role, key in metadata.online(online).items()}
    return metadata.genesis(holders, expires)


def rotate_online(chain: Chain, role: str, online: OnlineKeys, expires: datetime) -> Draft:
    """Name the server's new key. Raises BadInput when online.json still shows the one in use."""
    key = metadata.online(online)[role]
    if [key.keyid] == [old.keyid for old in metadata.holders_of(chain, role).keys]:
        raise BadInput(f"online.json shows the {role} key that is in use: run `fleet-server trust rotate {role}` first", field="online")
    return metadata.replace(chain, role, Holders([key]), expires)


def rotate_offline(chain: Chain, role: str, old: str | None, new: Key, threshold: int | None, expires: datetime) -> Draft:
    """`new` in the place of the key called `old`, which may be left out where the role has one key. Raises BadInput."""
    holders, gone = metadata.holders_of(chain, role), leaving(chain, role, old, threshold)
    keys = [new if key.keyid == gone else key for key in holders.keys]
    return metadata.replace(chain, role, Holders(keys, threshold or holders.threshold), expires)


def leaving(chain: Chain, role: str, old: str | None, threshold: int | None) -> str:
    """The id of the key that gives way to a new one. Raises BadInput as `rotate_offline` does, which may be asked before the new key is made."""
    holders = metadata.holders_of(chain, role)
    metadata.checked(role, Holders(holders.keys, threshold or holders.threshold))
    if old is None and len(holders.keys) == 1:
        return holders.keys[0].keyid
    found = [key.keyid for key in holders.keys if old and (named(key) == old or key.keyid == old)]
    if len(found) != 1:
        raise BadInput(f"say which key of {role} goes: --key {' or '.join(sorted(named(key) for key in holders.keys))}", field="key")
    return found[0]


def revoke(chain: Chain, name: str, expires: datetime) -> Draft:
    """Take a key out of the role it has. Raises BadInput when too few would be left: then it has to be replaced."""
    ((role, key),) = metadata.find(chain, name).items()
    holders = metadata.holders_of(chain, role)
    left = [one for one in holders.keys if one.keyid != key.keyid]
    if len(left) < holders.threshold:
        raise BadInput(
            f"{role} needs {holders.threshold} signatures and would have {len(left)} keys left: replace the key with "
            f"`model-tools keys rotate {role}`",
            field="key",
            limit=holders.threshold,
        )
    return metadata.replace(chain, role, Holders(left, holders.threshold), expires)


def fresh_name(role: str, chain: Chain, store: KeyStore) -> str:
    """`role`-N with the first number that no key of the fleet or the folder has had."""
    used = {named(key) for key in metadata.holders_of(chain, role).keys}
    number = 2
    while f"{role}-{number}" in used or f"{role}-{number}" in store:
        number += 1
    return f"{role}-{number}"


def _numbered(role: str, count: int) -> list[str]:
    return [role] if count == 1 else [f"{role}-{number}" for number in range(1, count + 1)]
