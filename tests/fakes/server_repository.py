"""A server's repository on the disk, and the key holders who began it, with their plain keys in a folder."""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from fleet_contract import online_keys
from fleet_server.trust.keys import OnlineKeys
from fleet_server.trust.repository import TufRepository
from model_tools.keys import changing, metadata, signing
from model_tools.keys.chain import Chain, Draft, parse
from model_tools.keys.metadata import Holders
from model_tools.keys.passphrases import unencrypted
from model_tools.keys.store import KeyStore

FLEET = "testing"
LIFETIME = timedelta(days=365)


@dataclass
class Founded:
    """`folder`/tuf, `folder`/online and `folder`/offline. `now` is the server's clock."""

    folder: Path
    now: datetime = field(default_factory=lambda: datetime.now(UTC).replace(microsecond=0))
    shape: changing.Shape = field(default_factory=changing.Shape)
    repository: TufRepository = field(init=False)

    def __post_init__(self) -> None:
        self.reopen()
        self.keys.create(FLEET)
        self.install(self.signed(changing.ceremony(self.shape, self.online_json(), self.make, self.now + LIFETIME), None))

    @property
    def offline(self) -> Path:
        return self.folder / "offline"

    @property
    def online(self) -> Path:
        return self.folder / "online"

    def reopen(self) -> None:
        """As a new process does."""
        self.keys, self.store = OnlineKeys(self.online), KeyStore(self.offline)
        self.repository = TufRepository(self.folder / "tuf", self.online, lambda: self.now)

    def copied(self, folder: Path) -> None:
        """From here on all of it lies in `folder`, which is new."""
        shutil.copytree(self.folder, folder)
        self.folder = folder
        self.reopen()

    def online_json(self) -> online_keys.OnlineKeys:
        return online_keys.decode(self.keys.online_json.read_bytes())

    def make(self, name: str):
        return (self.store.load(name) if name in self.store else self.store.create(name, unencrypted)).key

    def chain(self) -> Chain:
        found = {name: parse(data, name.split(".")[1]) for name, data in self.repository.newest().items()}
        roots = {one.signed.version: one for name, one in found.items() if name.endswith(".root.json")}
        others = [next(one for name, one in found.items() if name.endswith(f".{role}.json")) for role in ("targets", "releases")]
        return Chain(roots, *others)

    def signed(self, draft: Draft, before: Chain | None) -> dict[str, bytes]:
        """The draft's files by name, signed with every key that is needed."""
        lacks = signing.sign_draft(draft, before, self.store.everything(), unencrypted)
        if lacks:
            raise AssertionError(lacks)
        return files(draft)

    def install(self, new: dict[str, bytes]) -> None:
        self.repository.install(new)

    def rotate(self, role: str, key: str | None = None) -> dict[str, bytes]:
        """A new key for the role, named in signed metadata that is not installed yet."""
        before, expires = self.chain(), self.now + LIFETIME
        if role in metadata.ONLINE:
            self.keys.begin_rotation(role, FLEET)
            return self.signed(changing.rotate_online(before, role, self.online_json(), expires), before)
        new = self.make(changing.fresh_name(role, before, self.store))
        return self.signed(changing.rotate_offline(before, role, key, new, None, expires), before)

    def edited(self, edit: Callable[[Draft], object], signers: Sequence[str], roles: Sequence[str] = ("root",)) -> dict[str, bytes]:
        """The next versions of these roles after `edit`, signed by the keys of these names."""
        draft = metadata.renew(self.chain(), roles, self.now + LIFETIME)
        edit(draft)
        for name in signers:
            for _, one in draft.items():
                one.sign(self.store.load(name).signer(unencrypted), append=True)
        return files(draft)

    def hold(self, role: str, names: Sequence[str], threshold: int) -> dict[str, bytes]:
        """Other keys for an offline role."""
        before = self.chain()
        holders = Holders([self.make(name) for name in names], threshold)
        return self.signed(metadata.replace(before, role, holders, self.now + LIFETIME), before)


def files(draft: Draft) -> dict[str, bytes]:
    return {f"{one.signed.version}.{role}.json": one.to_bytes() for role, one in draft.items()}
