"""The repository in the hands of an attacker: any of its keys may be stolen, replaced or lost, and yesterday's files shown again."""

import json

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import DelegatedRole, Metadata, MetaFile, Snapshot, Timestamp

from tests.fakes.agent_repository import MemoryRepository


class HostileRepository(MemoryRepository):
    """What is stolen is used through `put`, which signs anything with anything."""

    def remember(self) -> dict[str, bytes]:
        """All files as they are now, for `show`."""
        return dict(self.files)

    def show(self, files: dict[str, bytes]) -> None:
        """Serve exactly these from now on."""
        kept = dict(files)
        self.files.clear()
        self.files.update(kept)

    def key(self, role: str) -> CryptoSigner:
        return self._keys[role]

    def put(self, name: str, signed: object, *keys: CryptoSigner) -> None:
        metadata = Metadata(signed)
        for key in keys:
            metadata.sign(key, append=True)
        self.files[f"metadata/{name}"] = metadata.to_bytes()

    def read(self, name: str) -> Metadata:
        return Metadata.from_bytes(self.files[f"metadata/{name}"])

    def edit(self, name: str, change) -> None:
        """Change a file's JSON and leave its signatures."""
        body = json.loads(self.files[f"metadata/{name}"])
        change(body)
        self.files[f"metadata/{name}"] = json.dumps(body).encode()

    def name_by_online_keys(self, meta: dict[str, int], *, ahead: int = 1) -> None:
        """Sign a snapshot that names these versions, and a timestamp for it, with the stolen online keys."""
        self._versions = {role: version + ahead for role, version in self._versions.items()}
        versions = {name: MetaFile(version) for name, version in meta.items()}
        snapshot = Snapshot(version=self._versions["snapshot"], expires=self._later(), meta=versions)
        self.put(f"{snapshot.version}.snapshot.json", snapshot, self.key("snapshot"))
        timestamp = Timestamp(version=self._versions["timestamp"], expires=self._later(), snapshot_meta=MetaFile(snapshot.version))
        self.put("timestamp.json", timestamp, self.key("timestamp"))

    @property
    def meta(self) -> dict[str, int]:
        """What an honest snapshot names now."""
        return {"targets.json": self._targets.version, "releases.json": self._releases.version}

    def replace_keys(self, *roles: str) -> None:
        """Two of three root keys replace the keys of online or targets roles; what those sign counts from one again."""
        for role in roles:
            old, self._keys[role] = self._keys[role], CryptoSigner.generate_ed25519()
            self._root.revoke_key(old.public_key.keyid, role)
            self._root.add_key(self._keys[role].public_key, role)
            if role in self._versions:
                self._versions[role] = 0
        self._root.version += 1
        self._sign_root()

    def replace_orders_key(self) -> None:
        """The targets key delegates orders to a new key."""
        self.orders_key = Ed25519PrivateKey.generate()
        self.delegate_anew()

    def delegate_anew(self) -> None:
        self._targets.delegations = self._delegations()
        self._targets.version += 1
        self.commit()

    def withdraw(self, path: str) -> None:
        """The releases key no longer vouches for a bundle."""
        del self._releases.targets[path]
        self._releases.version += 1
        self.commit()

    def delegate_to(self, name: str) -> None:
        """One more role, of this name, for every bundle; asked before releases."""
        delegations = self._delegations()
        key = self.key("releases").public_key
        delegations.roles = {name: DelegatedRole(name, [key.keyid], 1, False, ["bundles/*"]), **delegations.roles}
        self._targets.delegations = delegations
        self._targets.version += 1
        self.commit()

    def sign_root_with(self, *numbers: int) -> None:
        """The next root, with an attacker's timestamp key, signed by some of the three root keys."""
        thief = CryptoSigner.generate_ed25519()
        root = Metadata.from_bytes(self.files[f"metadata/{self._root.version}.root.json"]).signed
        root.version += 1
        root.add_key(thief.public_key, "timestamp")
        self.put(f"{root.version}.root.json", root, *(self._root_keys[number] for number in numbers))
