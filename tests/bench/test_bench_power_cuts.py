"""What counts as damage after a power cut, and where the benchmark refuses to work."""

from pathlib import Path

import pytest

from bench import disk, power_cuts
from bench.power_cuts import Cut, report
from edge_agent.storage.journal import Journal
from edge_agent.update.slots import Slots
from edge_agent.update.state import Installed, State
from fleet_contract.bundle import Bundle
from tests.fakes.small_bundle import small_bundle

WHOLE = Cut("fetching", 100, frozenset())
TORN = Cut("proving", 10, frozenset({"torn", "unrunnable"}))


@pytest.mark.parametrize(
    ("real", "control", "holds"),
    [
        pytest.param([WHOLE] * 3, [TORN], True, id="whole, and the control shows damage"),
        pytest.param([WHOLE, TORN], [TORN], False, id="one torn"),
        pytest.param([WHOLE], [WHOLE], False, id="a control without teeth"),
        pytest.param([WHOLE], [], True, id="no control asked for"),
    ],
)
def test_what_holds(real: list[Cut], control: list[Cut], holds: bool) -> None:
    assert report(real, control).holds is holds


def test_only_root_may_and_the_reason_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk.os, "geteuid", lambda: 1000)
    assert power_cuts.run(runs=1, control_runs=0, seed=1).skipped == "only root may mount"


def test_a_device_that_is_not_on_our_image_is_left_alone(tmp_path: Path) -> None:
    image = tmp_path / "image"
    image.touch()
    with pytest.raises((disk.NotHere, OSError)):
        disk.check_ours("/dev/null", image)


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """Of a device that has settled on a bundle."""
    archive = small_bundle()
    path = Slots(tmp_path / "slots").path("a")
    path.parent.mkdir(parents=True)
    path.write_bytes(archive)
    path.chmod(0o400)
    (tmp_path / "tuf").mkdir()
    (tmp_path / "tuf/timestamp.json").write_text("{}")
    active = Installed(slot="a", sha256=Bundle(archive).sha256, length=len(archive), version="1.0.0")
    Journal(tmp_path / "journal.json", State).write(State(active=active))
    return tmp_path


def test_a_settled_device_is_whole(state: Path) -> None:
    assert not power_cuts.is_torn(state)


@pytest.mark.parametrize("name", ["journal.json", "slots/a/bundle", "tuf/timestamp.json"])
def test_an_empty_file_is_damage(state: Path, name: str) -> None:
    (state / name).unlink()
    (state / name).touch(0o600)
    assert power_cuts.is_torn(state)
