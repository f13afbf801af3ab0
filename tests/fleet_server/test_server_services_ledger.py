"""The ledger on both databases: what devices report is held against what is stored, and what is wrong is an alert until it is right."""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import Connection, Engine, text, update

from fleet_contract import batches, limits
from fleet_contract.limits import MAX_CLOCK_SKEW_S
from fleet_contract.messages import OUTBOX_RESET, Event, Lane, LaneLedger, Status
from fleet_server.domain.coverage import Coverage, Run
from fleet_server.domain.holders import Reason
from fleet_server.errors import BadRequest, Conflict, NotFound
from fleet_server.lake.streams import Stored, save
from fleet_server.services import alerts, audit, devices, ledger, quarantine, statuses, streams
from fleet_server.services.statuses import Said, observe
from fleet_server.tables.database import writing
from fleet_server.tables.lake import LakeState
from tests.fakes.server_api import Api
from tests.fakes.server_world import World


class Books:
    """Two devices, one of them watched; the test writes both sides of its telemetry."""

    def __init__(self, world: World) -> None:
        self.world = world
        for device in ("cam-1", "cam-2"):
            world.enrol(device)

    def report(self, produced: int, *, queued: int = 0, oldest: int | None = None, **dropped: int) -> None:
        acknowledged = produced - queued - sum(dropped.values())
        mine = LaneLedger(produced, acknowledged, queued, dropped, produced - queued if oldest is None else oldest)
        self.world.say("cam-1", ledger={Lane.TELEMETRY: mine})

    def store(self, *runs: tuple[int, int]) -> None:
        coverage = Coverage(tuple(Run(*run) for run in runs))
        with writing(self.world.engine) as connection:
            save(connection, {("cam-1", "e1", Lane.TELEMETRY.value): Stored(coverage, coverage.below(1 << 40))})

    def catch_up(self) -> ledger.Swept:
        """All that was acknowledged until now is stored."""
        now = self.world.clock.forward(seconds=5)
        with writing(self.world.engine) as connection:
            connection.execute(update(LakeState).values(caught_up_at=now))
        return ledger.sweep(self.world.engine, now)

    def alerts(self, *, open_only: bool = True) -> list[tuple[str, str, Mapping[str, object]]]:
        rows = alerts.page(self.world.engine, after=0, limit=100, device=None, kind=None, open_only=open_only)
        return [(row.kind, row.device, row.detail) for row in rows]


@pytest.fixture
def books(world: World) -> Books:
    return Books(world)


def test_a_missing_record_is_an_alert_with_its_number_until_it_comes(books: Books) -> None:
    books.store((0, 3), (6, 9))
    books.report(10)
    assert books.alerts() == []
    books.catch_up()
    assert books.alerts() == [("ledger-missing", "cam-1", {"lost": 2, "first_missing": 4})]
    books.store((0, 9))
    assert books.catch_up().closed == 1
    assert books.alerts() == []
    changes = [(entry.action, entry.subject) for entry in audit.page(books.world.engine, 0, 100) if entry.action.startswith("alert")]
    assert changes == [("alert.open", "cam-1"), ("alert.close", "cam-1")]


def test_a_report_is_not_judged_before_what_it_speaks_of_is_stored(books: Books) -> None:
    books.report(10)
    assert ledger.sweep(books.world.engine, books.world.clock.forward(hours=1)) == ledger.Swept()
    books.store((0, 9))
    assert books.catch_up() == ledger.Swept(judged=1)
    assert books.catch_up() == ledger.Swept()


def test_an_alert_says_what_is_known_now(books: Books) -> None:
    books.store((0, 3), (6, 9))
    books.report(10)
    books.catch_up()
    books.store((0, 3), (6, 12), (15, 19))
    books.report(20)
    books.catch_up()
    assert books.alerts() == [("ledger-missing", "cam-1", {"lost": 4, "first_missing": 4})]


def test_the_first_missing_number_is_not_one_that_was_dropped_before(books: Books) -> None:
    books.store((0, 3), (6, 9))
    books.report(10, quota=2)
    books.catch_up()
    books.store((0, 3), (6, 14), (16, 19))
    books.report(20, quota=2)
    books.catch_up()
    assert books.alerts() == [("ledger-missing", "cam-1", {"lost": 1, "first_missing": 15})]


def begin_anew(world: World, *, carried: int | None = None, lost: int = 0) -> None:
    """The device goes on with a new outbox: `carried` and `lost` are what it says of the one before, None: it knows of none."""
    world.say("cam-1", epoch="e2", ledger={Lane.EVENTS: LaneLedger(0, 0, 0, {}, 0)})
    if carried is not None:
        told = Event(world.clock(), OUTBOX_RESET, {"message": "damaged", "carried": carried, "lost": lost})
        world.take("cam-1", batches.make("e2", Lane.EVENTS, 0, [told]))


@pytest.mark.parametrize(
    ("stored", "told", "expected"),
    [
        pytest.param(7, {}, {"lost": 3, "first_missing": 7}, id="it is gone"),
        pytest.param(10, {}, None, id="what waited had come"),
        pytest.param(7, {"carried": 1, "lost": 2}, None, id="it was damaged, and the device says what became of it"),
        pytest.param(7, {"carried": 2}, {"lost": 3, "first_missing": 7}, id="it was damaged, and held less than is missing"),
    ],
)
def test_what_waited_in_an_outbox_that_nobody_continues_is_missing(
    books: Books, stored: int, told: dict[str, int], expected: dict[str, int] | None
) -> None:
    books.store((0, stored - 1))
    books.report(10, queued=4)
    begin_anew(books.world, **told)
    books.catch_up()
    books.catch_up()
    assert books.alerts() == ([("ledger-missing", "cam-1", expected)] if expected else [])
    [line] = [each for each in streams.lines(books.world.engine) if (each.epoch, each.lane) == ("e1", "telemetry")]
    assert (line.queued, line.lost, line.balanced) == (0, expected["lost"] if expected else 0, expected is None)


def test_an_outbox_that_comes_back_is_right_again(books: Books) -> None:
    books.store((0, 5))
    books.report(10, queued=4)
    begin_anew(books.world)
    books.catch_up()
    assert [kind for kind, *_ in books.alerts()] == ["ledger-missing"]
    books.report(10, queued=4)
    books.catch_up()
    assert books.alerts() == []


def test_a_loss_that_a_person_accepted_is_told_again_when_it_grows(books: Books) -> None:
    books.store((0, 3), (6, 9))
    books.report(10)
    books.catch_up()
    [alert] = alerts.page(books.world.engine, after=0, limit=10, device="cam-1", kind=None, open_only=True)
    accepted = ledger.accept(books.world.engine, alert.id, by="ops", now=books.world.clock())
    assert (accepted.id, accepted.closed_at) == (alert.id, books.world.clock())
    books.store((0, 3), (6, 19))
    books.report(20)
    books.catch_up()
    assert books.alerts() == []
    books.report(25)
    books.catch_up()
    assert books.alerts() == [("ledger-missing", "cam-1", {"lost": 5, "first_missing": 20})]
    told = [(entry.actor, entry.detail) for entry in audit.page(books.world.engine, 0, 100) if entry.action == "alert.accept"]
    assert told == [("ops", {"alert": alert.id, "epoch": "e1", "lane": "telemetry", "lost": 2})]


def test_what_is_accepted_while_reports_are_judged_stays_accepted(books: Books, monkeypatch: pytest.MonkeyPatch) -> None:
    books.store((0, 3), (6, 9))
    books.report(10)
    books.catch_up()
    [alert] = alerts.page(books.world.engine, after=0, limit=10, device="cam-1", kind=None, open_only=True)
    books.store((0, 3), (6, 11))
    books.report(12)

    def accepted_first(engine: Engine) -> AbstractContextManager[Connection]:
        """Between the sweep's reading and its writing."""
        monkeypatch.undo()
        ledger.accept(books.world.engine, alert.id, by="ops", now=books.world.clock())
        return writing(engine)

    monkeypatch.setattr(ledger, "writing", accepted_first)
    books.catch_up()
    books.catch_up()
    assert books.alerts() == []
    assert [line.excused for line in streams.lines(books.world.engine)] == [2]


def test_what_was_accepted_may_come_after_all(books: Books) -> None:
    books.store((0, 3), (6, 9))
    books.report(10)
    books.catch_up()
    [alert] = alerts.page(books.world.engine, after=0, limit=10, device="cam-1", kind=None, open_only=True)
    ledger.accept(books.world.engine, alert.id, by="ops", now=books.world.clock())
    books.store((0, 14))
    books.report(15)
    books.catch_up()
    assert books.alerts() == []
    assert [line.balanced for line in streams.lines(books.world.engine)] == [True]


def test_only_a_loss_that_is_open_can_be_accepted(books: Books) -> None:
    with pytest.raises(NotFound, match="there is no alert 7"):
        ledger.accept(books.world.engine, 7, by="ops", now=books.world.clock())
    with writing(books.world.engine) as connection:
        quarantine.impose_twin(connection, "cam-1", "why", books.world.clock())
    [alert] = alerts.page(books.world.engine, after=0, limit=10, device="cam-1", kind=None, open_only=True)
    with pytest.raises(Conflict, match=f"alert {alert.id} is of twin-records: only a loss that is open can be accepted"):
        ledger.accept(books.world.engine, alert.id, by="ops", now=books.world.clock())
    quarantine.release(books.world.engine, "cam-1", by="ops", now=books.world.clock())
    with pytest.raises(Conflict, match=f"alert {alert.id} is closed"):
        ledger.accept(books.world.engine, alert.id, by="ops", now=books.world.clock())


def test_an_outbox_that_is_an_old_copy_is_seen_at_its_second_report(books: Books) -> None:
    books.store((0, 99))
    books.report(100)
    books.report(110)
    books.report(50)
    books.catch_up()
    assert books.alerts() == [("ledger-surplus", "cam-1", {"surplus": 50})]


def test_counts_that_contradict_themselves_are_an_alert(books: Books) -> None:
    books.store((0, 9))
    books.world.say("cam-1", ledger={Lane.TELEMETRY: LaneLedger(10, 5, 0, {}, 10)})
    books.catch_up()
    assert books.alerts() == [("ledger-surplus", "cam-1", {"surplus": 0, "misreported": True})]


def test_twins_are_set_apart_until_a_person_releases_them(books: Books) -> None:
    world, why = books.world, "telemetry 0 to 9 came twice, with other content"
    for _ in range(2):
        with writing(world.engine) as connection:
            quarantine.impose_twin(connection, "cam-1", why, world.clock())
    assert devices.get(world.engine, "cam-1", world.clock()).quarantine_reason == Reason.TWIN_RECORDS
    assert books.alerts() == [("twin-records", "cam-1", {"why": why})]
    quarantine.release(world.engine, "cam-1", by="test", now=world.clock())
    assert books.alerts() == []


def begin_epochs(world: World, number: int) -> None:
    for at in range(number):
        ledger_ = {Lane.EVENTS: LaneLedger(0, 0, 0)}
        observe(
            world.engine, "cam-1", Status(at=world.clock(), online=True, epoch=f"e{at}", ledger=ledger_), world.clock.forward(seconds=1)
        )


@pytest.mark.parametrize("way", ["statuses", "records"])
def test_a_device_with_too_many_epochs_is_set_apart_and_nothing_of_it_is_lost(
    books: Books, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = books.world
    monkeypatch.setattr(limits, "MAX_DEVICE_EPOCHS_COUNT", 3)
    begin_epochs(world, 3)
    world.say("cam-1", ledger={Lane.SAMPLES: LaneLedger(0, 0, 0)})
    assert books.alerts() == []
    if way == "statuses":
        begin_epochs(world, 4)
    else:
        world.take("cam-1", batches.make("e4", Lane.EVENTS, 0, [Event(world.clock(), "x")]))
    assert books.alerts() == [("too-many-epochs", "cam-1", {})]
    assert devices.get(world.engine, "cam-1", world.clock()).quarantine_reason == Reason.TOO_MANY_EPOCHS
    assert len({line.epoch for line in streams.lines(world.engine)}) == 4
    with pytest.raises(Conflict):
        begin_epochs(world, 1)
    quarantine.release(world.engine, "cam-1", by="test", now=world.clock())
    assert books.alerts() == []
    begin_epochs(world, 1)


def test_a_reason_that_nobody_knows_is_one_of_the_others(books: Books) -> None:
    books.world.say("cam-1", ledger={Lane.TELEMETRY: LaneLedger(9, 0, 0, {"quota": 2, **{f"mine-{at}": 1 for at in range(7)}})})
    assert streams.lines(books.world.engine, ["cam-1"])[0].dropped == {"quota": 2, "other": 7}


def test_who_takes_in_statuses_holds_up_nobodys_new_stream(tmp_path: Path, postgres_engine: Engine) -> None:
    """The compactor holds streams meanwhile that those statuses are about: each would wait for the other."""
    World(tmp_path, postgres_engine).enrol("cam-1")
    with writing(postgres_engine) as statuses_, writing(postgres_engine) as compactor:
        quarantine.hold(statuses_, ["cam-1"])
        compactor.execute(text("SET LOCAL lock_timeout = '2s'"))
        save(compactor, {("cam-1", "e1", Lane.TELEMETRY.value): Stored()})


def test_an_idle_report_is_written_once(books: Books) -> None:
    books.store((0, 9))
    books.report(10)
    first = streams.lines(books.world.engine, ["cam-1"])[0].reported_at
    books.report(10)
    assert streams.lines(books.world.engine, ["cam-1"])[0].reported_at == first
    books.report(11, queued=1)
    assert streams.lines(books.world.engine, ["cam-1"])[0].reported_at > first


def says(world: World, device: str, *, offset_s: float = 0.0, online: bool = True, **more: object) -> Said:
    now = world.clock.forward(seconds=1)
    return Said(device, Status(at=now + timedelta(seconds=offset_s), online=online, epoch="e1", **more), now)


def test_many_are_taken_together_each_by_itself(books: Books) -> None:
    world = books.world
    quarantine.impose(world.engine, "cam-2", by="test", now=world.clock())
    refused = statuses.observe_all(
        world.engine,
        [
            says(world, "cam-1", inputs=1, instance="a"),
            says(world, "nobody"),
            says(world, "cam-2"),
            says(world, "cam-1", inputs=2, instance="a"),
            says(world, "other", inputs=-1),
        ],
    )
    assert {device: type(error) for device, error in refused.items()} == {"nobody": NotFound, "cam-2": Conflict, "other": BadRequest}
    assert devices.get(world.engine, "cam-1", world.clock()).inputs == 2


def test_a_will_behind_a_status_says_that_the_device_is_gone(books: Books) -> None:
    statuses.observe_all(books.world.engine, [says(books.world, "cam-1", inputs=5), says(books.world, "cam-1", online=False)])
    seen = devices.get(books.world.engine, "cam-1", books.world.clock())
    assert (seen.online, seen.inputs) == (False, 5)


def test_instances_that_take_turns_within_one_group_are_seen(books: Books) -> None:
    statuses.observe_all(books.world.engine, [says(books.world, "cam-1", instance=name) for name in ("a", "b", "a")])
    assert devices.get(books.world.engine, "cam-1", books.world.clock()).quarantine_reason == Reason.CLONED_KEY


def test_a_clock_that_is_far_off_is_an_alert_until_it_is_right(books: Books) -> None:
    world, off = books.world, MAX_CLOCK_SKEW_S + 100
    for offset_s in (0, off, 0, -off):
        statuses.observe_all(world.engine, [says(world, "cam-1", offset_s=offset_s)])
        assert books.alerts() == []
    statuses.observe_all(world.engine, [says(world, "cam-1", offset_s=-off)])
    assert books.alerts() == [("clock-off", "cam-1", {"offset_s": -off})]
    assert devices.get(world.engine, "cam-1", world.clock()).clock_offset_s == -off
    statuses.observe_all(world.engine, [says(world, "cam-1")])
    assert books.alerts() == []


def test_a_status_that_the_broker_delivers_again_says_nothing_of_the_clock(books: Books) -> None:
    world = books.world
    first = says(world, "cam-1")
    statuses.observe_all(world.engine, [first])
    for _ in range(3):
        statuses.observe_all(world.engine, [Said("cam-1", first.status, world.clock.forward(hours=1))])
    assert books.alerts() == []
    assert devices.get(world.engine, "cam-1", world.clock()).clock_offset_s == 0


def test_a_device_that_floods_is_kept_out_for_a_while_and_comes_back(books: Books) -> None:
    world = books.world
    until = quarantine.throttle(world.engine, "cam-1", world.clock())
    assert quarantine.throttle(world.engine, "cam-1", world.clock.forward(seconds=1)) == until
    assert quarantine.excluded(world.engine, world.clock()).devices == {"cam-1"}
    assert books.alerts() == [("flood", "cam-1", {"times": 1})]
    world.clock.at = until
    world.tick()
    assert quarantine.excluded(world.engine, world.clock()).devices == frozenset()
    assert books.alerts() == []


def test_a_device_that_floods_again_and_again_is_set_apart(books: Books) -> None:
    world = books.world
    while (until := quarantine.throttle(world.engine, "cam-1", world.clock())) is not None:
        world.clock.at = until
    assert devices.get(world.engine, "cam-1", world.clock()).quarantine_reason == Reason.FLOOD
    quarantine.release(world.engine, "cam-1", by="test", now=world.clock())
    assert books.alerts() == []
    assert quarantine.throttle(world.engine, "cam-1", world.clock()) - world.clock() == timedelta(seconds=60)


def test_people_see_alerts(sqlite_world: World, caplog: pytest.LogCaptureFixture) -> None:
    books, api = Books(sqlite_world), Api(sqlite_world)
    books.report(10)
    books.catch_up()
    assert "alert ledger-missing: cam-1 telemetry {'lost': 10" in caplog.text
    item = api.get("/v1/alerts?open=true&kind=ledger-missing&device=cam-1").json()["items"][0]
    assert (item["lane"], item["epoch"], item["detail"]) == ("telemetry", "e1", {"lost": 10, "first_missing": 0})
    assert api.get("/v1/alerts?kind=flood").json()["items"] == []
    assert api.get("/v1/alerts?kind=nonsense").status_code == 422
