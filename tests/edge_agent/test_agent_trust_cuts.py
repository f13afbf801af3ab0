"""Power fails at every operation on the disk while metadata is brought up to date: the client recovers, with its floors."""

import shutil
from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest

from edge_agent.clock import BUILT_AT, SystemClock
from edge_agent.errors import Retry
from edge_agent.trust.client import Trust
from edge_agent.trust.time import TrustedTime
from tests.fakes.agent_repository import MemoryRepository
from tests.fakes.agent_world import MemoryFiles
from tests.fakes.power import PowerCut, mains
from tests.fakes.small_bundle import small_bundle

PATH = "bundles/toy-1.0.0.bundle"


def _nothing(repository: MemoryRepository) -> None:
    """The first contact of a new device."""


def _publish(repository: MemoryRepository) -> None:
    repository.publish(small_bundle("2.0.0"))


def _replace(repository: MemoryRepository) -> None:
    repository.rotate_root()
    repository.rotate_root(replace_timestamp_key=True)
    repository.publish(small_bundle("2.0.0"))


class Fleet:
    """Three states of a repository: one that the device has left behind, the one that it holds, and the one that it is brought to."""

    def __init__(self, change: Callable[[MemoryRepository], None]) -> None:
        repository = MemoryRepository()
        repository.publish(small_bundle())
        self.root = repository.root_v1
        self.past = dict(repository.files)
        repository.commit()
        self.present = dict(repository.files)
        change(repository)
        self.future = dict(repository.files)

    def refresh(self, folder: Path, files: dict[str, bytes]) -> Trust:
        trust = Trust(folder / "tuf", self.root, MemoryFiles(files), TrustedTime(folder / "time.json", SystemClock(), BUILT_AT))
        trust.refresh()
        return trust


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(_publish, id="a new release"),
        pytest.param(_replace, id="two root rotations, a replaced timestamp key, a new release"),
    ],
)
def test_every_cut_is_recovered_from(tmp_path: Path, change: Callable[[MemoryRepository], None]) -> None:
    fleet = Fleet(change)
    fleet.refresh(tmp_path / "held", fleet.present).target(PATH)
    for operation in count():
        folder = tmp_path / "device"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(tmp_path / "held", folder)
        with mains(operation) as power:
            try:
                fleet.refresh(folder, fleet.future).target(PATH)
            except PowerCut:
                pass
        with pytest.raises(Retry):
            fleet.refresh(folder, fleet.past)
        assert fleet.refresh(folder, fleet.future).target(PATH)
        assert list((folder / "tuf").rglob(".*")) == []
        with pytest.raises(Retry):
            fleet.refresh(folder, fleet.present)
        if not power.failed:
            break
    assert operation > 20


def test_a_first_contact_that_is_cut_off_is_begun_again(tmp_path: Path) -> None:
    fleet = Fleet(_nothing)
    for operation in count():
        folder = tmp_path / str(operation)
        with mains(operation) as power:
            try:
                fleet.refresh(folder, fleet.future).target(PATH)
            except PowerCut:
                pass
        assert fleet.refresh(folder, fleet.future).target(PATH)
        if not power.failed:
            break
    assert operation > 20
