"""The uplink's rules alone: window, timeout, what is missed, what is afforded, quiet hours, and how a storm spreads."""

import random
from collections import Counter
from datetime import UTC, datetime, time
from zoneinfo import ZoneInfo

import msgspec
import pytest

from edge_agent.hours import DailyWindow, QuietHours
from edge_agent.link import spending, window
from edge_agent.link.flights import Flight, Flights
from edge_agent.link.settings import UplinkSettings
from edge_agent.link.window import Timeout
from fleet_contract.messages import Ack, Batch, Lane

NIGHT = QuietHours((DailyWindow(time(22), time(6)),), ZoneInfo("Europe/Berlin"))
GAP = QuietHours((DailyWindow(time(2, 30), time(3, 30)),), ZoneInfo("Europe/Berlin"))


class TestWindow:
    def test_slow_start_then_one_more_a_round(self) -> None:
        grown = window.opened(100).grown(4).grown(8).halved()
        assert (grown.size, grown.threshold) == (8, 8)
        for _ in range(8):
            grown = grown.grown(1)
        assert 8.9 < grown.size < 9

    def test_never_nothing(self) -> None:
        closed = window.opened(8)
        for _ in range(9):
            closed = closed.halved()
        assert (closed.room(0), closed.room(1)) == (1, 0)


class TestTimeout:
    def test_as_the_rfc_has_it(self) -> None:
        """RFC 6298, 2.2 and 2.3, gains 1/8 and 1/4."""
        first = Timeout(0.1, 300).measured(2.0)
        assert (first.smooth_s, first.deviation_s, first.value_s) == (2.0, 1.0, 6.0)
        second = first.measured(4.0)
        assert (second.smooth_s, second.deviation_s) == (2.25, 1.25)

    def test_doubled_until_something_is_measured(self) -> None:
        timeout = Timeout(10, 300)
        values = []
        for _ in range(6):
            timeout = timeout.expired()
            values.append(timeout.value_s)
        assert values == [20, 40, 80, 160, 300, 300]
        assert timeout.measured(1.0).value_s == 10


def batch(first: int, count: int = 10) -> Batch:
    return Batch("e", Lane.TELEMETRY, first, count, "none", 0, b"", "boot")


def flights(*sent_s: float) -> Flights:
    """Batches of ten, sent then."""
    return Flights(tuple(Flight(batch(10 * number), at_s, 1.0, True) for number, at_s in enumerate(sent_s)))


def answered(flying: Flights, number: int, came_s: float) -> Flights:
    return flying.landed(Ack("e", Lane.TELEMETRY, [(10 * number, 10 * number + 9)]), came_s)[0]


TEN = Timeout(10, 300)
BUSY = TEN.expired()


@pytest.mark.parametrize(
    ("flying", "timeout", "missed"),
    [
        pytest.param(flights(15, 16), TEN, [], id="none is late"),
        pytest.param(flights(5, 6, 7), TEN, [0], id="silence: the oldest asks"),
        pytest.param(Flights(flights(5, 6, 7).flying, 12), TEN, [], id="silence: it has asked already"),
        pytest.param(flights(5, 6, 7), BUSY, [], id="silence: twice as patient the second time"),
        pytest.param(answered(flights(5, 6, 9), 2, 17), BUSY, [0, 10], id="what was overtaken, at once"),
        pytest.param(answered(flights(5, 6, 9), 2, 18), BUSY, [], id="its acknowledgement may be right behind"),
        pytest.param(answered(flights(5, 6, 9), 0, 17), TEN, [10], id="what was sent later was not overtaken"),
        pytest.param(answered(flights(15, 16), 1, 17), TEN, [], id="overtaken, and not yet late"),
    ],
)
def test_what_is_missed_at_twenty_seconds(flying: Flights, timeout: Timeout, missed: list[int]) -> None:
    assert [flight.batch.first for flight in flying.missed(20.0, timeout)] == missed


@pytest.mark.parametrize(
    ("ranges", "left"),
    [
        pytest.param([(0, 9)], [10, 20], id="one"),
        pytest.param([(0, 19)], [20], id="merged"),
        pytest.param([(0, 14)], [10, 20], id="a part lands nothing"),
        pytest.param([(20, 29), (0, 9)], [10], id="two ranges"),
    ],
)
def test_what_lands(ranges: list[tuple[int, int]], left: list[int]) -> None:
    flying, _ = flights(1, 2, 3).landed(Ack("e", Lane.TELEMETRY, ranges), 4.0)
    assert [flight.batch.first for flight in flying.flying] == left


class TestRoom:
    @pytest.mark.parametrize(
        ("flying", "has_history", "fresh", "history"),
        [
            pytest.param(0, False, 8, 0, id="no history"),
            pytest.param(0, True, 7, 2, id="history has its share, and a place"),
            pytest.param(7, True, 1, 1, id="a last place"),
            pytest.param(8, True, 0, 0, id="full"),
        ],
    )
    def test_of_a_window_of_eight(self, flying: int, has_history: bool, fresh: int, history: int) -> None:
        room = spending.room(
            window.opened(8, 8), flights(*[0.0] * flying), spending.Purse(), 0.0, history_share=0.25, has_history=has_history
        )
        assert (room.fresh, room.history) == (fresh, history)

    def test_history_gives_way_before_the_rest(self) -> None:
        purse = spending.purse(100_000, 0.1, 0.0).paid(50_000, 10.0, of_history=True)
        room = spending.room(window.opened(8, 8), Flights(), purse, 10.0, history_share=0.5, has_history=True)
        assert (room.fresh, room.history) == (1, 0)


@pytest.mark.parametrize(
    ("hours", "now", "is_quiet"),
    [
        pytest.param(QuietHours(), "2026-01-10T23:00+00:00", False, id="none are set"),
        pytest.param(NIGHT, "2026-01-10T20:59:59+00:00", False, id="winter evening"),
        pytest.param(NIGHT, "2026-01-10T21:00+00:00", True, id="winter night"),
        pytest.param(NIGHT, "2026-07-10T20:00+00:00", True, id="summer night begins an hour earlier"),
        pytest.param(NIGHT, "2026-07-10T04:00+00:00", False, id="summer morning"),
        pytest.param(NIGHT, "2026-03-29T03:59:59+00:00", True, id="the night in which clocks go forward ends by the new time"),
        pytest.param(NIGHT, "2026-03-29T04:00+00:00", False, id="and no later"),
        pytest.param(GAP, "2026-03-29T00:59:59+00:00", False, id="before the hour that is not"),
        pytest.param(GAP, "2026-03-29T01:00+00:00", True, id="after it: 03:00"),
        pytest.param(GAP, "2026-10-25T00:45+00:00", True, id="02:45, the first time"),
        pytest.param(GAP, "2026-10-25T01:15+00:00", False, id="02:15, the second time"),
        pytest.param(GAP, "2026-10-25T01:45+00:00", True, id="02:45, the second time"),
    ],
)
def test_quiet_hours(hours: QuietHours, now: str, is_quiet: bool) -> None:
    assert hours.contain(datetime.fromisoformat(now).astimezone(UTC)) is is_quiet


@pytest.mark.parametrize(
    "told",
    [
        pytest.param({"quiet_hours": ["22-6"]}, id="no hours"),
        pytest.param({"zone": "Mars/Olympus"}, id="no zone"),
        pytest.param({"zone": "../../etc/passwd"}, id="no name of a zone"),
        pytest.param({"history_share": 0.0}, id="history would wait for ever"),
        pytest.param({"rate_bytes_per_s": 10}, id="too slow for a status"),
    ],
)
def test_settings_that_mean_nothing_are_named(told: dict) -> None:
    with pytest.raises(msgspec.ValidationError, match=next(iter(told))):
        msgspec.convert(told, UplinkSettings)


def attempts(devices: int, settings: UplinkSettings, fits_per_s: int) -> Counter[int]:
    """Attempts in each second after a broker of that many handshakes a second came back; the rest fails after the client's 10 s."""
    draw, backoff = random.Random(7), settings.backoff()
    due = [(backoff.wait_s(1, draw.random), 1) for _ in range(devices)]
    tried: Counter[int] = Counter()
    served: Counter[int] = Counter()
    while due:
        again = []
        for at_s, attempt in sorted(due):
            tried[int(at_s)] += 1
            served[int(at_s)] += 1
            if served[int(at_s)] > fits_per_s:
                again.append((at_s + 10 + backoff.wait_s(attempt + 1, draw.random), attempt + 1))
        due = again
    return tried


class TestStorm:
    def test_ten_thousand_find_their_way_back_by_themselves(self) -> None:
        tried = attempts(10_000, UplinkSettings(), fits_per_s=1_000)
        assert max(tried) < 120
        assert sum(tried.values()) < 35_000

    def test_a_spread_leaves_the_broker_in_peace(self) -> None:
        tried = attempts(10_000, UplinkSettings(reconnect_spread_s=30), fits_per_s=1_000)
        assert (max(tried), sum(tried.values())) == (29, 10_000)
        assert max(tried.values()) < 500
