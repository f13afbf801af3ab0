"""Damage costs what it hit: the rest of the outbox goes on, and every number is accounted for."""

import itertools
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest

from edge_agent.errors import Retry
from edge_agent.outbox import database, rescue
from edge_agent.outbox.settings import OutboxSettings
from edge_agent.outbox.store import Outbox
from fleet_contract.messages import Batch, Event, Lane, Record, Sample
from tests.fakes.agent_outbox import Clocks, records_in

AT = Clocks().now.at
UNITS = 40
PAGE = 2_048


def sample(size: int = 30_000) -> Sample:
    return Sample(at=AT, bundle="b", campaign="c", input_id="i", media_type="image/png", data=os.urandom(size), label=None, value=0.0)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "outbox.db"


class Device:
    """An outbox that is opened as often as one likes, with an epoch of its own for each that begins, and a server that stores what it is sent."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._epochs = (f"epoch-{number}" for number in itertools.count(1))
        self.stored: dict[tuple[str, Lane, int], Record] = {}
        self.outbox = self._open()

    def restart(self, damage: Callable[[Path], None]) -> None:
        self.close()
        damage(self.path)
        self.outbox = self._open()

    def crash(self, damage: Callable[[Path], None]) -> None:
        """What lies on the disk while it is open is all that is left of it."""
        left = {name: self.beside(name).read_bytes() for name in ("", "-wal", "-shm")}
        self.close()
        for name, data in left.items():
            self.beside(name).write_bytes(data)
        damage(self.path)
        self.outbox = self._open()

    def append(self, record: Record, cursor: str | None = None) -> None:
        """As a caller does, who tries again."""
        for _ in range(5):
            with suppress(Retry):
                return self.outbox.append([record], cursor=cursor)
        raise AssertionError("the outbox does not recover")

    def send(self, most: int) -> list[Batch]:
        found = self._batches(most)
        for batch in found:
            for number, record in zip(batch.sequences, records_in([batch]), strict=True):
                known = self.stored.setdefault((batch.epoch, batch.lane, number), record)
                assert known == record, f"{batch.lane} {number} came again, and was another"
        return found

    def acknowledge(self, found: list[Batch]) -> None:
        for batch in found:
            self.outbox.acknowledge(batch.lane, [(batch.first, batch.last)])

    def settle(self) -> dict[str, Event]:
        """Everything is sent and acknowledged; the events by kind."""
        self.append(sample())
        self.outbox.rewind()
        self.acknowledge(self.send(10_000))
        self.append(sample())
        for lane in self.outbox.ledger().values():
            assert lane.produced == lane.acknowledged + lane.queued + sum(lane.dropped.values())
            assert lane.queued <= 1
        return {record.kind: record for record in self.stored.values() if isinstance(record, Event)}

    def damaged(self) -> int:
        return self.outbox.ledger()[Lane.SAMPLES].dropped.get("damaged", 0)

    def checkpoint(self) -> None:
        """All of it lies in the database, and none in memory."""
        with closing(sqlite3.connect(self.path, isolation_level=None)) as db:
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self.outbox._shelf._db.execute("PRAGMA shrink_memory")

    def beside(self, suffix: str) -> Path:
        return self.path.with_name(self.path.name + suffix)

    def _batches(self, most: int) -> list[Batch]:
        for _ in range(5):
            with suppress(Retry):
                return self.outbox.batches(most)
        raise AssertionError("the outbox does not recover")

    def _open(self) -> Outbox:
        return Outbox(self.path, new_epoch=lambda: next(self._epochs), read=Clocks(), settings=OutboxSettings(ballast_bytes=0))

    def close(self) -> None:
        self.outbox.close()


@pytest.fixture
def device(path: Path) -> Iterator[Device]:
    """Of its samples the first three are acknowledged, the next three were sent."""
    made = Device(path)
    for number in range(UNITS):
        made.append(sample(), str(number))
    made.acknowledge(made.send(3))
    made.send(3)
    made.append(sample(), str(UNITS))
    with closing(made):
        yield made


def flip(path: Path, at: int) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ 0x10]))


def overwrite(path: Path, at: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        file.write(data)


def flip_in(statement: str) -> Callable[[Path], None]:
    """As a flipped byte would: the checksum does not know of it."""

    def damage(path: Path) -> None:
        with closing(sqlite3.connect(path, isolation_level=None)) as db:
            assert db.execute(statement).rowcount == 1

    return damage


def leaf_of(path: Path, kind: int = 13) -> int:
    """Where a page of some units begins, behind the first ones."""
    data = path.read_bytes()
    return next(
        at for at in range(10 * PAGE, len(data), PAGE) if data[at] == kind and data[at + 1 : at + 3] == bytes(2) and data[at + 7] == 0
    )


def root_of(path: Path, table: str = "unit") -> int:
    with closing(sqlite3.connect(path)) as db:
        return (db.execute("SELECT rootpage FROM sqlite_schema WHERE name=?", (table,)).fetchone()[0] - 1) * PAGE


TENTH = f"WHERE key = (SELECT key FROM unit WHERE key >= {database.key(3, 0)} ORDER BY key LIMIT 1 OFFSET 10)"


@pytest.mark.parametrize(
    "change",
    [
        pytest.param("data = zeroblob(length(data))", id="its data"),
        pytest.param("data = 7", id="the type of its data"),
        pytest.param("boot = 'boot-0'", id="its boot"),
        pytest.param("boot = CAST(x'ff' AS TEXT)", id="no text"),
        pytest.param("clock = 'untrusted'", id="its clock"),
        pytest.param("codec = 'zstd'", id="its codec"),
        pytest.param("sent = 1 - sent", id="whether it was sent"),
        pytest.param("count = count + 1", id="its count"),
        pytest.param("size = 'x'", id="its size"),
        pytest.param("stride = 2", id="its stride"),
        pytest.param("key = key + 1000000", id="its number"),
        pytest.param("key = -key", id="its lane"),
    ],
)
class TestOneUnit:
    def test_it_alone_is_lost_and_counted(self, device: Device, change: str) -> None:
        device.restart(flip_in(f"UPDATE unit SET {change} {TENTH}"))
        events = device.settle()
        detail = events["outbox.damaged"].detail
        assert (device.outbox.epoch, device.outbox.cursor(), device.damaged(), detail["lost"]) == ("epoch-1", str(UNITS), 1, 1)
        assert len(device.stored) == UNITS + 1 - 1 + 1 + 1, "all but one, the event, and the last"

    def test_it_is_kept_for_people(self, device: Device, change: str) -> None:
        device.restart(flip_in(f"UPDATE unit SET {change} {TENTH}"))
        device.settle()
        with closing(sqlite3.connect(device.path)) as db:
            assert db.execute("SELECT count(*) FROM damaged").fetchone() == (1,)


@pytest.mark.parametrize("place", [pytest.param(0, id="the first"), pytest.param(37, id="the last")])
def test_any_unit_may_be_damaged(device: Device, place: int) -> None:
    device.restart(flip_in(f"UPDATE unit SET boot = 'boot-0' {TENTH.replace('OFFSET 10', f'OFFSET {place}')}"))
    assert device.settle()["outbox.damaged"].detail["lost"] == device.damaged() == 1


def test_few_damaged_units_are_kept(device: Device) -> None:
    for _ in range(20):
        device.restart(flip_in(f"UPDATE unit SET count = 9 {TENTH}"))
    with closing(sqlite3.connect(device.path)) as db:
        assert db.execute("SELECT count(*) FROM damaged").fetchone() == (16,)
    device.settle()
    assert device.damaged() == 20


def test_what_cannot_be_unpacked_holds_nothing_up(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    """A checksum that is right says nothing of what it is of."""
    with closing(database.plain(device.path)) as db:
        batch = Batch("", Lane.EVENTS, 0, 1, "none", 3, b"abc", "boot-1")
        db.execute("DELETE FROM unit WHERE key=0")
        device.append(Event(at=AT, kind="one"))
        device.append(Event(at=AT, kind="two"))
        db.execute("DELETE FROM unit WHERE key=0")
        database.insert(db, batch, Clocks().now.offset_us)
    events = device.settle()
    assert set(events) == {"two", "outbox.damaged"}


RESTARTED = [
    # damage, whether the numbers go on, cursor
    pytest.param(lambda path: path.write_bytes(b"not a database" * 1_000), False, None, id="another file"),
    pytest.param(lambda path: os.truncate(path, path.stat().st_size // 2), True, str(UNITS), id="a truncated file"),
    pytest.param(lambda path: overwrite(path, 0, os.urandom(100)), False, None, id="no header"),
    *[pytest.param(lambda path, at=at: flip(path, at), True, str(UNITS), id=f"byte {at} of the header") for at in (0, 15, 16, 18, 21, 30)],
    pytest.param(lambda path: overwrite(path, root_of(path, "account"), bytes(PAGE)), False, None, id="the account's page"),
    pytest.param(lambda path: flip(path, leaf_of(path) + 3), True, str(UNITS), id="a flipped byte in a leaf"),
    pytest.param(lambda path: overwrite(path, leaf_of(path), bytes(PAGE)), True, str(UNITS), id="a zeroed leaf"),
    pytest.param(lambda path: flip(path, root_of(path) + 4), True, str(UNITS), id="a flipped byte in an interior page"),
    pytest.param(lambda path: overwrite(path, root_of(path), bytes(PAGE)), True, str(UNITS), id="a zeroed interior page"),
    pytest.param(flip_in("UPDATE account SET body = zeroblob(length(body))"), False, None, id="the account"),
    pytest.param(flip_in("DELETE FROM account"), False, None, id="no account"),
]


@pytest.mark.parametrize(("damage", "goes_on", "cursor"), RESTARTED)
def test_a_file_that_is_damaged_at_the_start(device: Device, damage: Callable[[Path], None], goes_on: bool, cursor: str | None) -> None:
    device.restart(damage)
    assert (device.outbox.epoch, device.outbox.cursor()) == ("epoch-1" if goes_on else "epoch-2", cursor)
    events = device.settle()
    kind = "outbox.damaged" if goes_on else "outbox.reset"
    assert events[kind].detail["lost"] == device.damaged()
    assert list(device.path.parent.glob("outbox.damaged-1"))


class TestTheLog:
    """SQLite itself takes a log that has lost something for a shorter one, and the file for an older one, whose numbers would be given again."""

    @pytest.mark.parametrize(
        "damage",
        [
            pytest.param(lambda path: flip(wal(path), wal(path).stat().st_size // 3), id="a flipped byte"),
            pytest.param(
                lambda path: (flip(wal(path), wal(path).stat().st_size // 3), index(path).unlink()), id="a flipped byte and no index"
            ),
            pytest.param(lambda path: flip(wal(path), 17), id="a flipped byte in its header"),
            pytest.param(lambda path: (flip(wal(path), 17), index(path).unlink()), id="a flipped byte in its header and no index"),
            pytest.param(lambda path: os.truncate(wal(path), wal(path).stat().st_size // 3), id="cut short"),
            pytest.param(lambda path: os.truncate(wal(path), 0), id="emptied"),
            pytest.param(lambda path: wal(path).unlink(), id="missing"),
        ],
    )
    def test_no_number_is_given_twice(self, device: Device, damage: Callable[[Path], None]) -> None:
        device.crash(damage)
        assert device.outbox.epoch == "epoch-2"
        assert device.settle()["outbox.reset"].detail["lost"] == device.damaged()

    def test_a_commit_that_a_power_cut_has_torn_is_no_damage(self, device: Device) -> None:
        def tear(path: Path) -> None:
            index(path).unlink()
            flip(wal(path), wal(path).stat().st_size - 100)

        device.crash(tear)
        assert (device.outbox.epoch, device.damaged()) == ("epoch-1", 0)

    def test_a_killed_process_leaves_a_log_that_is_whole(self, device: Device) -> None:
        device.crash(lambda path: None)
        assert (device.outbox.epoch, device.damaged(), device.outbox.cursor()) == ("epoch-1", 0, str(UNITS))


class TestWhileItRuns:
    @pytest.mark.parametrize(
        ("at", "size"),
        [
            pytest.param(lambda path: 0, None, id="all of it"),
            pytest.param(lambda path: 0, PAGE, id="the first page"),
            pytest.param(lambda path: leaf_of(path), PAGE, id="a leaf"),
            pytest.param(lambda path: root_of(path), PAGE, id="an interior page"),
            pytest.param(lambda path: root_of(path, "account"), PAGE, id="the account"),
        ],
    )
    def test_the_numbers_go_on_whatever_is_damaged(self, device: Device, at: Callable[[Path], int], size: int | None) -> None:
        device.checkpoint()
        overwrite(device.path, at(device.path), os.urandom(size or device.path.stat().st_size))
        taken = [sample(10) for _ in range(3)]
        for record in taken:
            device.append(record, "later")
        events = device.settle()
        assert (device.outbox.epoch, device.outbox.cursor()) == ("epoch-1", "later")
        assert [record for record in device.stored.values() if record in taken] == taken
        assert sum(event.detail["lost"] for kind, event in events.items() if kind == "outbox.damaged") == device.damaged()

    @pytest.mark.parametrize("code", [sqlite3.SQLITE_IOERR, sqlite3.SQLITE_IOERR_READ, sqlite3.SQLITE_CORRUPT])
    def test_a_read_that_fails(self, device: Device, code: int, monkeypatch: pytest.MonkeyPatch) -> None:
        error = sqlite3.DatabaseError("disk I/O error")
        error.sqlite_errorcode = code  # type: ignore[misc]
        whole, failures = database.read, iter([error])

        def read(*args) -> Batch:
            for failure in failures:
                raise failure
            return whole(*args)

        monkeypatch.setattr(database, "read", read)
        events = device.settle()
        assert (device.outbox.epoch, device.damaged(), events["outbox.damaged"].detail["carried"]) == ("epoch-1", 0, UNITS - 2 + 1)

    def test_a_rescue_that_fails_is_tried_again(self, device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(*args) -> None:
            monkeypatch.undo()
            raise sqlite3.OperationalError("database or disk is full")

        monkeypatch.setattr(rescue, "_copy", fail)
        device.checkpoint()
        overwrite(device.path, leaf_of(device.path), bytes(PAGE))
        device.settle()
        assert device.outbox.epoch == "epoch-1"

    def test_what_is_on_its_way_is_not_sent_again(self, device: Device) -> None:
        under_way = device.send(100)
        device.checkpoint()
        overwrite(device.path, leaf_of(device.path), bytes(PAGE))
        for _ in range(2):
            device.append(sample(10))
        assert [batch.lane for batch in device.send(100)].count(Lane.SAMPLES) == 1
        device.acknowledge(under_way)
        device.settle()


def test_a_rescue_that_was_cut_off_is_made_again_or_finished(device: Device) -> None:
    device.close()
    into = device.path.with_name("outbox.rescue")
    into.write_bytes(b"half")
    device.outbox = device._open()
    assert (device.outbox.epoch, into.exists()) == ("epoch-1", False)
    device.close()
    device.path.rename(into)
    device.outbox = device._open()
    assert (device.outbox.epoch, into.exists()) == ("epoch-1", False)


def test_the_log_of_a_file_that_is_set_aside_is_not_its_successors(device: Device) -> None:
    """Power fails between the two renames of a rescue."""
    device.close()
    damaged = device.path.with_name("damaged.db")
    with closing(Outbox(damaged, new_epoch=lambda: "another", read=Clocks())) as other:
        other.append([sample()])
        wal(device.path).write_bytes(wal(damaged).read_bytes())
    device.path.rename(device.path.with_name("outbox.rescue"))
    device.outbox = device._open()
    assert (device.outbox.epoch, device.outbox.cursor(), device.damaged()) == ("epoch-1", str(UNITS), 0)


def test_only_the_newest_damaged_files_are_kept(path: Path, device: Device) -> None:
    for _ in range(4):
        device.restart(lambda path: path.write_bytes(b"not a database" * 1_000))
    assert sorted(found.name for found in path.parent.glob("outbox.damaged-*")) == ["outbox.damaged-3", "outbox.damaged-4"]


def test_a_sound_file_is_not_touched(device: Device) -> None:
    device.restart(lambda path: None)
    assert "outbox.damaged" not in device.settle()
    assert (device.outbox.epoch, device.path.stat().st_mode & 0o777) == ("epoch-1", 0o600)


def wal(path: Path) -> Path:
    return path.with_name(path.name + "-wal")


def index(path: Path) -> Path:
    """Of the log, in the memory of the machine: a power cut takes it along."""
    return path.with_name(path.name + "-shm")
