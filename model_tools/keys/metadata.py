"""What root, targets and releases say: pure, from keys and dates to unsigned metadata.

Shape of a fleet's repository: root names the keys of root, targets, snapshot and timestamp; targets has no targets of its own and delegates
`bundles/*` to `releases` and `orders/*` to `orders`, which has no metadata: its keys sign the orders themselves.
"""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from securesystemslib.signer import Key, SSlibKey
from tuf.api.metadata import DelegatedRole, Delegations, Metadata, Role, Root, Targets

from fleet_contract import limits
from fleet_contract.online_keys import OnlineKeys
from fleet_contract.release import ORDERS, RELEASES
from model_tools.errors import BadInput
from model_tools.keys.chain import ROOT, TARGETS, Chain, Draft
from model_tools.keys.store import NAME_FIELD, named

SNAPSHOT, TIMESTAMP = "snapshot", "timestamp"
BY_ROOT = (ROOT, TARGETS, SNAPSHOT, TIMESTAMP)
BY_TARGETS = (RELEASES, ORDERS)
ONLINE = (SNAPSHOT, TIMESTAMP, ORDERS)
_PATHS = {RELEASES: ["bundles/*"], ORDERS: ["orders/*"]}


@dataclass(frozen=True)
class Holders:
    """The keys of one role, of which `threshold` have to sign."""

    keys: Sequence[Key]
    threshold: int = 1


def checked(role: str, holders: Holders) -> Holders:
    """Return `holders` if they can ever sign. Raises BadInput."""
    count = len({key.keyid for key in holders.keys})
    if not 1 <= count <= limits.MAX_ROLE_KEYS_COUNT:
        raise BadInput(f"{role} would have {count} keys", field=role, limit=limits.MAX_ROLE_KEYS_COUNT)
    if not 1 <= holders.threshold <= count:
        raise BadInput(f"{role} would need {holders.threshold} signatures of {count} keys", field="threshold", limit=count)
    return holders


def online(keys: OnlineKeys) -> dict[str, Key]:
    """By role, and named like it."""
    return {role: _public(getattr(keys, role), role) for role in ONLINE}


def genesis(holders: Mapping[str, Holders], expires: datetime) -> Draft:
    """Version 1 of everything; `holders` has every role. Raises BadInput."""
    root = Root(expires=expires, consistent_snapshot=True)
    for role in BY_ROOT:
        _assign(root.roles, root.keys, role, checked(role, holders[role]))
    targets = Targets(expires=expires, delegations=Delegations(keys={}, roles={}))
    for role in BY_TARGETS:
        _delegate(targets, role, checked(role, holders[role]))
    _check_apart(root, targets)
    return Draft(Metadata(root), Metadata(targets), Metadata(Targets(expires=expires)))


def replace(chain: Chain, role: str, holders: Holders, expires: datetime) -> Draft:
    """The next versions, in which these keys alone are `role`'s. What the role itself signs is issued anew. Raises BadInput."""
    checked(role, holders)
    root, targets = chain.root.signed, chain.targets.signed
    if role in BY_ROOT:
        root = _next(root, expires)
        _assign(root.roles, root.keys, role, holders)
        _drop_unused(root.keys, root.roles)
    else:
        targets = _next(targets, expires)
        _delegate(targets, role, holders)
        _drop_unused(targets.delegations.keys, targets.delegations.roles)
    _check_apart(root, targets)
    if role in BY_ROOT:
        return Draft(root=Metadata(root), targets=Metadata(_next(targets, expires)) if role == TARGETS else None)
    return Draft(targets=Metadata(targets), releases=Metadata(_next(chain.releases.signed, expires)) if role == RELEASES else None)


def renew(chain: Chain, roles: Sequence[str], expires: datetime) -> Draft:
    """The next versions of these roles, with nothing but their expiry changed. Raises BadInput for a role whose metadata the server signs."""
    for role in roles:
        if role in ONLINE:
            raise BadInput(f"role {role!r}: the server renews what it signs by itself", field="role")
        offline_role(role)
    return Draft(**{role: Metadata(_next(chain.newest(role).signed, expires)) for role in roles})


def without_targets(draft: Draft, paths: Sequence[str]) -> Draft:
    """Take these targets out of the draft's releases. Raises BadInput for one that is not there."""
    releases = draft.releases
    for path in paths:
        if releases is None or releases.signed.targets.pop(path, None) is None:
            raise BadInput(f"the releases have no target {path!r}", field="drop")
    return draft


def holders_of(chain: Chain, role: str) -> Holders:
    """Who signs for `role` now. Raises BadInput for an unknown role."""
    if role in BY_ROOT:
        found, keys = chain.root.signed.roles[role], chain.root.signed.keys
    else:
        delegations = chain.targets.signed.delegations
        if role not in BY_TARGETS or delegations is None or role not in (delegations.roles or {}):
            raise BadInput(f"there is no role {role!r}; there are {', '.join((*BY_ROOT, *BY_TARGETS))}", field="role")
        found, keys = delegations.roles[role], delegations.keys
    return Holders([keys[keyid] for keyid in found.keyids], found.threshold)


def find(chain: Chain, name: str) -> dict[str, Key]:
    """By role, the key that is called `name` or whose id begins so. Raises BadInput when it is in no role, or two keys are meant."""
    found = {
        role: key
        for role in (*BY_ROOT, *BY_TARGETS)
        for key in holders_of(chain, role).keys
        if named(key) == name or (len(name) >= 8 and key.keyid.startswith(name))
    }
    if len({key.keyid for key in found.values()}) != 1:
        raise BadInput(f"{'no key' if not found else 'more than one key'} of the fleet is called {name!r}", field="key")
    return found


def offline_role(role: str) -> str:
    """Return `role` if people hold its keys. Raises BadInput."""
    if role not in (ROOT, TARGETS, RELEASES):
        told = "the server holds its key: give --online" if role in ONLINE else f"there are {', '.join((*BY_ROOT, *BY_TARGETS))}"
        raise BadInput(f"role {role!r}: {told}", field="role")
    return role


def online_role(role: str) -> str:
    """Return `role` if the server holds its key. Raises BadInput."""
    if role not in ONLINE:
        raise BadInput(f"role {role!r}: online.json has only {', '.join(ONLINE)}", field="role")
    return role


def _check_apart(root: Root, targets: Targets) -> None:
    """One key, one role: whoever steals it must not get two."""
    keyids = [keyid for role in root.roles.values() for keyid in role.keyids]
    keyids += [keyid for role in targets.delegations.roles.values() for keyid in role.keyids]
    double = sorted({keyid for keyid in keyids if keyids.count(keyid) > 1})
    if double:
        raise BadInput(f"the key {double[0][:12]} would have two roles", field="key")


def _next(signed, expires: datetime):
    following = copy.deepcopy(signed)
    following.version += 1
    following.expires = expires
    return following


def _assign(roles: dict[str, Role], keys: dict[str, Key], role: str, holders: Holders) -> None:
    roles[role] = Role([key.keyid for key in holders.keys], holders.threshold)
    keys.update({key.keyid: key for key in holders.keys})


def _delegate(targets: Targets, role: str, holders: Holders) -> None:
    keyids = [key.keyid for key in holders.keys]
    targets.delegations.roles[role] = DelegatedRole(role, keyids, holders.threshold, terminating=True, paths=_PATHS[role])
    targets.delegations.keys.update({key.keyid: key for key in holders.keys})


def _drop_unused(keys: dict[str, Key], roles: Mapping[str, Role]) -> None:
    used = {keyid for role in roles.values() for keyid in role.keyids}
    for keyid in set(keys) - used:
        del keys[keyid]


def _public(raw: str, name: str) -> Key:
    key = SSlibKey.from_crypto(Ed25519PublicKey.from_public_bytes(bytes.fromhex(raw)))
    key.unrecognized_fields[NAME_FIELD] = name
    return key
