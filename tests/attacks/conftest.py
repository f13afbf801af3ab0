"""A repository that may fall into wrong hands, and a device that already runs version 1.0.0 from it."""

import random
from pathlib import Path

import pytest

from tests.fakes.attacked_device import AttackedDevice
from tests.fakes.hostile_repository import HostileRepository
from tests.fakes.small_bundle import small_bundle

VERSIONS = ("1.0.0", "2.0.0", "3.0.0")


class World:
    """`archives` by version; only 1.0.0 is published at first, by order 1."""

    def __init__(self, folder: Path) -> None:
        self.archives = {version: small_bundle(version, model=random.Random(version).randbytes(300_000)) for version in VERSIONS}
        self.repository = HostileRepository()
        self.publish("1.0.0")
        self.device = AttackedDevice(folder / "state", self.repository)
        self.device.install(self.archives["1.0.0"], 1)

    def publish(self, version: str) -> str:
        return self.repository.publish(self.archives[version])

    def order(self, version: str, counter: int, **changes: object) -> None:
        self.device.order(self.archives[version], counter, **changes)

    def converges(self, version: str, counter: int) -> bool:
        """Whether the device follows an honest order of an honest server, as if nothing had been."""
        self.device.install(self.archives[version], counter)
        return self.device.version == version and self.device.host.active_sha256 == self.device.state.active.sha256


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)
