"""Brokers, and a task that is quick to train. Everything below runs real processes."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from examples.sensors import tables
from hil import workbench
from hil.fleet import FleetRig


@dataclass(frozen=True)
class Made:
    """A task file, and a bundle of it."""

    task: Path
    bundle: Path


@pytest.fixture(scope="session")
def mosquitto() -> str:
    """Its path; skips where it is not installed."""
    found = shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin:/opt/homebrew/sbin")
    if found is None:
        pytest.skip("mosquitto is not installed (Debian: apt install mosquitto)")
    return found


@pytest.fixture(scope="module", params=["mosquitto", "embedded"])
def broker(request) -> str:
    if request.param == "mosquitto":
        request.getfixturevalue("mosquitto")
    return request.param


@pytest.fixture(scope="session")
def tissue(tmp_path_factory) -> Made:
    """The sensors example's task."""
    folder = tmp_path_factory.mktemp("tissue")
    task = Path(shutil.copy(Path(tables.__file__).with_name("task.toml"), folder))
    tables.write_training(tables.deal(np.random.default_rng(1)), folder / "training.csv")
    workbench.build(task, folder / "tissue.bundle", "1.0.0")
    return Made(task, folder / "tissue.bundle")


@pytest.fixture
def fleet(tmp_path) -> Iterator[FleetRig]:
    """Not started yet."""
    with FleetRig(tmp_path / "home") as rig:
        yield rig
