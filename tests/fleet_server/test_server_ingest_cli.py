"""Ingest workers that are started by hand, here or on another machine."""

from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from fleet_contract.errors import ContractError
from fleet_server import running, settings
from fleet_server.errors import BadRequest, Conflict
from fleet_server.ingest import elsewhere
from fleet_server.running import RunState
from fleet_server.settings import Settings
from fleet_server.storage import make_folder
from fleet_server.trust import device_ca

CHOSEN = Settings(broker="mqtts://mqtt.example:8883", database_url="postgresql+psycopg://fleet:secret@db.example/fleet")


def now() -> datetime:
    return datetime.now(UTC)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    device_ca.create(tmp_path / "home" / "ca", "demo", now)
    return tmp_path / "home"


def test_the_folder_for_another_machine_holds_no_more_than_it_needs(home: Path, tmp_path: Path) -> None:
    out = elsewhere.make_files(home, CHOSEN, 3, tmp_path / "worker", now)
    assert out.stat().st_mode & 0o777 == 0o700
    assert {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()} == {
        "server.json",
        "ca/ca.pem",
        "ca/ingest_3.pem",
        "ca/ingest_3.key",
    }
    assert (out / "ca" / "ingest_3.key").stat().st_mode & 0o777 == 0o600
    assert (out / "server.json").stat().st_mode & 0o777 == 0o600
    there = settings.load(out)
    assert (there.broker, there.database_url) == (CHOSEN.broker, CHOSEN.database_url)
    elsewhere.certify(out, "demo", 3, now)  # no CA key there: what lies there is used


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        pytest.param({"broker": "auto"}, "broker", id="a broker that is only known here"),
        pytest.param({"database_url": None}, "database_url", id="a database in the home"),
        pytest.param({"database_url": "sqlite:////srv/fleet.db"}, "database_url", id="a SQLite file"),
    ],
)
def test_what_another_machine_cannot_reach_is_refused(home: Path, tmp_path: Path, changes: dict, field: str) -> None:
    with pytest.raises(BadRequest) as caught:
        elsewhere.make_files(home, msgspec.structs.replace(CHOSEN, **changes), 3, tmp_path / "worker", now)
    assert caught.value.field == field


def test_nothing_is_overwritten(home: Path) -> None:
    with pytest.raises(Conflict):
        elsewhere.make_files(home, CHOSEN, 3, home, now)


@pytest.mark.parametrize("number", [0, 17])
def test_a_number_that_no_acl_knows_is_refused(number: int) -> None:
    with pytest.raises(BadRequest) as caught:
        elsewhere.check_number(number)
    assert caught.value.field == "number"


def test_the_broker_is_the_one_set_or_the_one_that_runs(home: Path) -> None:
    assert elsewhere.broker_url(home, CHOSEN) == CHOSEN.broker
    with pytest.raises(BadRequest):
        elsewhere.broker_url(home, Settings())
    make_folder(home / "run", 0o700)
    running.write_state(home, RunState("https://localhost:8443", "mqtts://localhost:8883", "mosquitto", 1, 2))
    assert elsewhere.broker_url(home, Settings()) == "mqtts://localhost:8883"
    with pytest.raises(ContractError):
        elsewhere.broker_url(home, Settings(broker="http://mqtt.example"))
