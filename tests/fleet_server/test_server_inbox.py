"""The inbox: what is appended is durable and in order, in either database, and is forgotten by id."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from fleet_server.inbox import segment, sql
from fleet_server.inbox.port import Backlog, Segment
from fleet_server.inbox.segment import Arrival, BadSegment
from fleet_server.inbox.sql import SqlInbox

ONE = [Arrival("pi-1", 1_000, b"first"), Arrival("pi-2", 1_001, b"")]
TWO = [Arrival("pi-1", 2_000, b"second")]


@pytest.fixture(params=["sqlite", "postgres"])
def inbox(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SqlInbox]:
    if request.param == "postgres":
        yield SqlInbox(request.getfixturevalue("postgres_engine"))
        return
    inbox = sql.open_file(tmp_path / sql.FILE)
    yield inbox
    inbox.engine.dispose()


def test_what_was_appended_is_read_in_order(inbox: SqlInbox) -> None:
    first, second = inbox.append(ONE, 10), inbox.append(TWO, 20)
    assert first < second
    assert inbox.read(0, 1_000) == [Segment(first, ONE), Segment(second, TWO)]
    assert inbox.read(first, 1_000) == [Segment(second, TWO)]
    assert inbox.read(second, 1_000) == []


@pytest.mark.parametrize(
    ("max_bytes", "segments"),
    [
        pytest.param(1, 1, id="one, even where it is larger"),
        pytest.param(5, 1, id="the first fits"),
        pytest.param(10, 1, id="the second does not"),
        pytest.param(11, 2, id="both fit"),
    ],
)
def test_a_read_is_bounded(inbox: SqlInbox, max_bytes: int, segments: int) -> None:
    inbox.append(ONE, 10)
    inbox.append(TWO, 20)
    assert len(inbox.read(0, max_bytes)) == segments


def test_what_is_forgotten_is_gone_and_its_id_is_not_given_again(inbox: SqlInbox) -> None:
    first, second = inbox.append(ONE, 10), inbox.append(TWO, 20)
    inbox.forget(second)
    inbox.forget(first)
    assert inbox.read(0, 1_000) == []
    assert inbox.append(TWO, 30) > second


def test_the_backlog_is_what_waits(inbox: SqlInbox) -> None:
    assert inbox.backlog() == Backlog(0, 0, 0, None)
    first = inbox.append(ONE, 10)
    inbox.append(TWO, 20)
    assert inbox.backlog() == Backlog(2, 3, 11, 10)
    inbox.forget(first)
    assert inbox.backlog() == Backlog(1, 1, 6, 20)


def test_a_reader_that_goes_on_after_the_last_id_misses_nothing(inbox: SqlInbox) -> None:
    """With several writers an id may be taken before, and committed after, a higher one."""

    def write(writer: int) -> None:
        for number in range(25):
            inbox.append([Arrival(f"pi-{writer}", number, b"x")], number)

    writers = [threading.Thread(target=write, args=(writer,)) for writer in range(4)]
    for writer in writers:
        writer.start()
    seen: list[Segment] = []
    while len(seen) < 100:
        seen += inbox.read(seen[-1].id if seen else 0, 1 << 20)
    for writer in writers:
        writer.join()
    assert len({(arrival.device, arrival.received_at_us) for each in seen for arrival in each.arrivals}) == 100


def test_a_file_is_opened_again_as_it_was(tmp_path: Path) -> None:
    inbox = sql.open_file(tmp_path / sql.FILE)
    written = inbox.append(ONE, 10)
    inbox.engine.dispose()
    again = sql.open_file(tmp_path / sql.FILE)
    try:
        assert again.read(0, 1_000) == [Segment(written, ONE)]
    finally:
        again.engine.dispose()


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"\x92\x02\x90", id="another version"),
        pytest.param(segment.pack(ONE)[:-3], id="cut off"),
    ],
)
def test_what_is_no_segment_is_refused(content: bytes) -> None:
    with pytest.raises(BadSegment):
        segment.unpack(content)
