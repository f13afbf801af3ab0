"""Putting signatures on a draft: those that can be made here, and who has to make the others."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from securesystemslib.signer import Signer

from model_tools.errors import BadInput
from model_tools.keys.chain import ROLES, Chain, Draft, Need, name_of
from model_tools.keys.passphrases import Passphrase
from model_tools.keys.store import StoredKey, named


@dataclass(frozen=True)
class Lack:
    """`file` still needs `missing` signatures of the keys called `names`."""

    file: str
    missing: int
    names: tuple[str, ...]


def sign_draft(draft: Draft, before: Chain | None, stored: Mapping[str, StoredKey], passphrase: Passphrase) -> list[Lack]:
    """Sign with every stored key that is at hand, as far as the thresholds ask for it; returns what lacks. Raises BadInput."""
    after, signers = draft.after(before), _Signers(stored, passphrase)
    for role, metadata in draft.items():
        for keyid in _chosen(after.needs(role), signers):
            metadata.sign(signers.of(keyid), append=True)
    return lacks(draft, before)


def add_signature(after: Chain, role: str, key: StoredKey, passphrase: Passphrase) -> None:
    """One more signature on `role`'s newest metadata. Raises BadInput when nobody asks for this key's, or it is there."""
    needs = after.needs(role)
    if not any(key.key.keyid in need.keys for need in needs):
        wanted = sorted({named(one) for need in needs for one in need.keys.values()})
        raise BadInput(f"{key.name} has no say in {role}; its signers are {', '.join(wanted)}", field="key")
    if any(key.key.keyid in need.signed for need in needs):
        raise BadInput(f"{key.name} has signed {name_of(role, after.newest(role))} already", field="key", code="already-signed")
    after.newest(role).sign(key.signer(passphrase), append=True)


def lacks(draft: Draft, before: Chain | None) -> list[Lack]:
    after = draft.after(before)
    return [lack for role, metadata in draft.items() for lack in lacking(name_of(role, metadata), after.needs(role))]


def lacking(file: str, needs: Iterable[Need]) -> list[Lack]:
    """Two roots that demand the same are told once."""
    found = [
        Lack(file, need.missing, tuple(sorted(named(key) for keyid, key in need.keys.items() if keyid not in need.signed)))
        for need in needs
        if need.missing
    ]
    return list(dict.fromkeys(found))


def lacking_in(folder: Path, chain: Chain) -> list[Lack]:
    """What those of the chain's newest files that lie in this folder still need."""
    files = {role: name_of(role, chain.newest(role)) for role in ROLES}
    return [lack for role, file in files.items() if (folder / file).exists() for lack in lacking(file, chain.needs(role))]


class _Signers:
    """Opens each key once, and only when it is needed."""

    def __init__(self, stored: Mapping[str, StoredKey], passphrase: Passphrase) -> None:
        self._stored, self._passphrase = stored, passphrase
        self._opened: dict[str, Signer] = {}

    def __contains__(self, keyid: str) -> bool:
        return keyid in self._stored and self._stored[keyid].at_hand

    def of(self, keyid: str) -> Signer:
        if keyid not in self._opened:
            self._opened[keyid] = self._stored[keyid].signer(self._passphrase)
        return self._opened[keyid]


def _chosen(needs: Iterable[Need], at_hand: _Signers) -> list[str]:
    """As few keys as meet every threshold: those that serve two needs at once first."""
    needs, chosen = list(needs), []
    wanted = {keyid for need in needs for keyid in need.keys if keyid in at_hand}
    for keyid in sorted(wanted, key=lambda one: (-sum(one in need.keys for need in needs), one)):
        if any(keyid in need.keys and need.missing > sum(one in need.keys for one in chosen) for need in needs):
            chosen.append(keyid)
    return chosen
