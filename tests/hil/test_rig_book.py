"""The ledger of a virtual device's lane: whatever happens to a record, it is counted once."""

from hypothesis import given
from hypothesis import strategies as st

from hil.virtual_fleet.book import DROPPED_QUOTA, LaneBook, Unit
from hil.virtual_fleet.spread import Spread, merge

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.integers(1, 5)),
        st.tuples(st.just("take"), st.just(0)),
        st.tuples(st.just("rewind"), st.just(0)),
        st.tuples(st.just("acknowledge"), st.integers(0, 30)),
    ),
    max_size=60,
)


def filled(*counts: int, max_waiting: int = 100) -> LaneBook:
    book = LaneBook(max_waiting)
    for count in counts:
        book.add(Unit(book.produced, count, b"", 0.0))
    return book


def taken(book: LaneBook) -> list[int]:
    found = []
    while unit := book.take(1.0):
        found.append(unit.first)
    return found


@given(STEPS)
def test_every_record_is_acknowledged_queued_or_dropped(steps: list[tuple[str, int]]) -> None:
    book, stored = LaneBook(max_waiting=4), set()
    for step, number in steps:
        match step:
            case "add":
                book.add(Unit(book.produced, number, b"", 0.0))
            case "take":
                if unit := book.take(0.0):
                    stored |= set(range(unit.first, unit.first + unit.count))
            case "rewind":
                book.rewind()
            case "acknowledge" if number in stored:
                book.acknowledge([(first, first) for first in stored] + [(min(stored), number)])
        said = book.report()
        assert said.produced == said.acknowledged + said.queued + sum(said.dropped.values())
        assert said.queued >= 0
        assert said.acknowledged <= len(stored)


def test_what_was_sent_is_sent_again_in_order_before_what_was_not() -> None:
    book = filled(2, 3, 1)
    assert [book.take(1.0).first for _ in range(2)] == [0, 2]
    assert book.rewind() == 2
    book.add(Unit(6, 1, b"", 0.0))
    assert taken(book) == [0, 2, 5, 6]


def test_an_acknowledgement_of_an_earlier_connection_counts() -> None:
    book = filled(2, 3)
    taken(book)
    book.rewind()
    assert [unit.first for unit in book.acknowledge([(0, 4)])] == [0, 2]
    assert (book.queued, book.waits) == (0, False)


def test_what_was_overtaken_is_sent_again_alone() -> None:
    book = filled(1, 1, 1)
    for now_s in (1.0, 2.0, 3.0):
        book.take(now_s)
    assert book.overtaken_s() == float("inf")
    book.acknowledge([(1, 1)])
    assert book.overtaken_s() == 1.0
    book.rewind_overtaken(5.0)
    assert taken(book) == [0]
    assert book.flying == 2


def test_half_a_unit_is_not_acknowledged() -> None:
    book = filled(4)
    taken(book)
    assert book.acknowledge([(0, 2)]) == []


def test_the_oldest_that_was_never_sent_gives_way() -> None:
    book = filled(1, 1, max_waiting=2)
    book.take(0.0)
    for _ in range(2):
        book.add(Unit(book.produced, 1, b"", 0.0))
    said = book.report()
    assert (said.dropped, said.oldest) == ({DROPPED_QUOTA: 1}, 0)
    assert taken(book) == [2, 3]


def test_quantiles_of_spreads_that_were_merged() -> None:
    fast, slow = Spread(), Spread()
    for _ in range(99):
        fast.add(0.010)
    slow.add(2.0)
    both = merge([fast, slow])
    assert 0.0094 < both.quantile(0.5) < 0.0107
    assert both.quantile(1.0) == 2.0
    assert Spread().quantile(0.5) is None
