"""A deleted device: its rows go at once, its files and what the broker retains as soon as they can, its neighbours' never."""

from datetime import timedelta

import pytest
from sqlalchemy import func, select
from sqlmodel import SQLModel

from fleet_contract.messages import Event, Result, Sample
from fleet_server.services import audit, deletion, quarantine
from fleet_server.tables.database import reading
from fleet_server.tables.sample import Sample as SampleRow
from tests.fakes.server_api import Api
from tests.fakes.server_bundles import make_bundle
from tests.fakes.server_world import World

GONE, KEPT = "cam-1", "cam-2"
OWN, SHARED = b"\x89PNG mine", b"\x89PNG anybody's"


@pytest.fixture
def busy(world: World) -> World:
    """Two devices that have left something everywhere."""
    for device in (GONE, KEPT):
        world.enrol(device)
    bundle = world.publish(make_bundle("1"))
    world.settle()
    for device, picture in ((GONE, OWN), (KEPT, SHARED)):
        now = world.clock()
        taken = [Sample(now, bundle, "drift-1", f"f{at}", "image/png", data, "no", 0.6) for at, data in enumerate((picture, SHARED))]
        world.say(device, bundle=bundle)
        world.send(device, Event(now, "agent.started"), Result(now, bundle, "1", "no", 0.5, 100), *taken)
    return world


def rows_of(world: World, device: str) -> dict[str, int]:
    """By table, of those that name devices."""
    with reading(world.engine) as connection:
        counts = {}
        for name, table in SQLModel.metadata.tables.items():
            if "device" in table.columns and name not in ("deletions", "revoked_certificates"):
                counts[name] = connection.execute(select(func.count()).select_from(table).where(table.c.device == device)).scalar_one()
        return {name: count for name, count in counts.items() if count}


def finish(world: World) -> None:
    """As the lake's process does."""
    for device in deletion.pending(world.engine):
        deletion.finish(world.engine, world.fleet.home, device, world.clock(), lake_rows=1)


def kept_files(world: World) -> set[bytes]:
    return {file.read_bytes() for file in world.fleet.samples.iterdir()}


def entries(world: World) -> list[tuple[str, dict]]:
    return [
        (row.action, row.detail) for row in audit.page(world.engine, 0, 1_000) if row.subject == GONE and row.action.startswith("device.")
    ]


def test_of_its_rows_nothing_is_left_and_of_others_everything(busy: World) -> None:
    before = rows_of(busy, KEPT)
    assert rows_of(busy, GONE).keys() == before.keys() > {"streams", "events", "samples", "certificates"}
    deletion.begin(busy.fleet, GONE, by="anna", now=busy.clock())
    assert rows_of(busy, GONE) == {}
    assert rows_of(busy, KEPT) == before
    (_, _), (action, detail) = entries(busy)
    assert action == "device.delete"
    assert {"devices": 1, "events": 1, "samples": 2}.items() <= detail["rows"].items()
    assert audit.verify(busy.engine).intact


def test_every_table_that_names_devices_is_thought_of() -> None:
    named = {table.name for table in SQLModel.metadata.tables.values() if "device" in table.columns}
    own = {table.__tablename__ for table in (*deletion._OF_STREAMS, *deletion._OF_THE_DEVICE)}
    assert named - own == {"deletions", "revoked_certificates"}


def test_its_files_go_but_those_that_others_have_stay(busy: World) -> None:
    copies = busy.fleet.jobs / "7" / "samples"
    copies.mkdir(parents=True)
    with reading(busy.engine) as connection:
        ids = {row.id: row.device for row in connection.execute(select(SampleRow.id, SampleRow.device))}
    for sample in ids:
        (copies / f"{sample}.png").touch()
    deletion.begin(busy.fleet, GONE, by="anna", now=busy.clock())
    assert kept_files(busy) == {OWN, SHARED}, "until the one that writes them deletes them"
    finish(busy)
    assert kept_files(busy) == {SHARED}
    assert {ids[int(file.stem)] for file in copies.iterdir()} == {KEPT}
    assert entries(busy)[-1] == ("device.forget", {"inferences": 1, "files": 1})
    assert deletion.pending(busy.engine) == []


def test_its_certificate_is_worth_nothing_whoever_has_it(busy: World) -> None:
    deletion.begin(busy.fleet, GONE, by="anna", now=busy.clock())
    excluded = quarantine.excluded(busy.engine, busy.clock())
    assert (excluded.devices, excluded.serials) == ({GONE}, {1})
    finish(busy)
    busy.enrol(GONE)
    excluded = quarantine.excluded(busy.engine, busy.clock())
    assert (excluded.devices, excluded.serials) == (set(), {1}), "the name is free, the old key is not"


def test_the_broker_forgets_it_once_it_is_shut_out(busy: World) -> None:
    busy.link.retained[GONE] = busy.link.retained[KEPT] = b"an order"
    deletion.begin(busy.fleet, GONE, by="anna", now=busy.clock())
    assert deletion.clear(busy.fleet, busy.clock()) == 0
    busy.link.offline = True
    assert deletion.clear(busy.fleet, busy.clock() + timedelta(minutes=1)) == 0
    busy.link.offline = False
    assert [deletion.clear(busy.fleet, busy.clock() + timedelta(minutes=1)) for _ in range(2)] == [1, 0]
    assert [*busy.link.retained] == [KEPT]


class TestOverHttp:
    @pytest.fixture
    def there(self, api: Api) -> Api:
        api.world.enrol(GONE)
        return api

    @pytest.mark.parametrize("role", ["viewer", "operator"])
    def test_it_is_for_admins(self, there: Api, role: str) -> None:
        assert there.request("DELETE", f"/v1/devices/{GONE}", role).status_code == 403
        assert there.get(f"/v1/devices/{GONE}").status_code == 200

    def test_it_says_what_is_left_to_do(self, there: Api) -> None:
        answer = there.request("DELETE", f"/v1/devices/{GONE}", "admin")
        assert (answer.status_code, answer.json()["device"], answer.json()["done_at"]) == (202, GONE, None)
        assert there.get(f"/v1/devices/{GONE}").status_code == 404
        assert there.request("DELETE", f"/v1/devices/{GONE}", "admin").status_code == 404
        finish(there.world)
        there.world.clock.forward(seconds=60)
        there.world.settle()
        (item,) = there.get("/v1/deletions", "admin").json()["items"]
        assert item["cleared_at"]
        assert item["done_at"]

    def test_a_name_is_not_given_again_before_its_data_is_gone(self, there: Api) -> None:
        there.request("DELETE", f"/v1/devices/{GONE}", "admin")
        wish = {"device_id": GONE, "profile": "generic-x86-64", "task": "toy", "lifetime_s": 60}
        answer = there.post("/v1/enrolment-tokens", wish)
        assert (answer.status_code, answer.json()["error"]["code"]) == (409, "being-deleted")
        finish(there.world)
        assert there.post("/v1/enrolment-tokens", wish).status_code == 201
