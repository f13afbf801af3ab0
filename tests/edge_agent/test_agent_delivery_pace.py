"""When and how fast a download may go: rules alone, and a pacer whose time passes when it rests."""

from collections.abc import Callable
from datetime import UTC, datetime, time, timedelta

import pytest

from edge_agent.allowance import Allowance
from edge_agent.delivery.pace import LEAST_BYTES_PER_S, SPAN_S, Manners, Pulse
from edge_agent.delivery.pacer import Pacer
from edge_agent.errors import Fatal, Retry
from edge_agent.hours import DailyWindow, parse_window
from tests.fakes.agent_run_world import FakeClock


def at(text: str) -> datetime:
    return datetime.fromisoformat(f"2026-03-01T{text}+00:00")


NIGHT, NOON = DailyWindow(time(22), time(5)), DailyWindow(time(12), time(13, 30))


@pytest.mark.parametrize(
    ("window", "now", "is_open"),
    [
        pytest.param(NOON, "12:00:00", True, id="as it opens"),
        pytest.param(NOON, "13:29:59", True, id="just before it ends"),
        pytest.param(NOON, "13:30:00", False, id="as it ends"),
        pytest.param(NOON, "11:59:30", False, id="just before"),
        pytest.param(NIGHT, "23:00:00", True, id="before midnight"),
        pytest.param(NIGHT, "04:59:59", True, id="after midnight"),
        pytest.param(NIGHT, "05:00:00", False, id="in the morning"),
        pytest.param(NIGHT, "21:59:59.500000", False, id="in the evening"),
    ],
)
def test_a_daily_window(window: DailyWindow, now: str, is_open: bool) -> None:
    assert window.is_open(at(now)) is is_open


def test_a_window_is_read() -> None:
    assert parse_window("22:00-05:30", "window") == DailyWindow(time(22), time(5, 30))


@pytest.mark.parametrize("text", ["", "22-5", "24:00-05:00", "22:60-05:00", "22:00-22:00", "22:00 - 05:00", "١٢:00-13:00", "22:00-05:00\n"])
def test_a_window_that_is_none_is_an_error(text: str) -> None:
    with pytest.raises(Fatal, match="download_window"):
        parse_window(text, "download_window")


@pytest.mark.parametrize(
    ("setting", "name"),
    [
        pytest.param({"rate_bytes_per_s": 0}, "download_rate", id="no bytes"),
        pytest.param({"rate_bytes_per_s": 1023}, "download_rate", id="too slow ever to end"),
        pytest.param({"rate_bytes_per_s": 2**31}, "download_rate", id="too fast to mean it"),
        pytest.param({"transport": "ftp"}, "transport", id="no such way"),
    ],
)
def test_a_setting_out_of_range_names_itself(setting: dict, name: str) -> None:
    with pytest.raises(Fatal, match=name):
        Manners(**setting)


@pytest.mark.parametrize(
    ("rate", "most"),
    [(None, 32), (1 << 10, 1), (100 << 10, 25), (1 << 30, 32)],
    ids=["no limit", "one at least", "a second's worth", "never more than a request may"],
)
def test_what_one_request_may_ask_for(rate: int | None, most: int) -> None:
    assert Manners(rate_bytes_per_s=rate).blocks_at_once(4 << 10, 32) == most


@pytest.mark.parametrize("rate", [1 << 10, 1 << 16, 1 << 20])
@pytest.mark.parametrize("piece", [100, 4 << 10, 32 << 10])
def test_over_any_time_no_more_than_the_rate_and_one_second_of_it(rate: int, piece: int) -> None:
    """Whoever waits as told, from whatever idleness, keeps to the rate to within one piece and one second's worth."""
    allowance, now_s, taken = Allowance(rate, 0.0), 50.0, 0
    for _ in range(200):
        allowance = allowance.spend(piece, now_s)
        taken += piece
        assert taken - piece <= rate * (now_s - 50.0) + rate
        now_s += allowance.wait_s


class TestPulse:
    @pytest.mark.parametrize(
        ("count", "after_s", "alive"),
        [
            pytest.param(0, SPAN_S - 1, True, id="a span is not over"),
            pytest.param(int(LEAST_BYTES_PER_S * SPAN_S), SPAN_S, True, id="just enough"),
            pytest.param(int(LEAST_BYTES_PER_S * SPAN_S) - 1, SPAN_S, False, id="just not"),
            pytest.param(0, SPAN_S, False, id="nothing"),
        ],
    )
    def test_a_span_needs_its_bytes(self, count: int, after_s: float, alive: bool) -> None:
        assert (Pulse(100.0).beat(count, 100.0 + after_s) is not None) == alive

    def test_a_good_span_does_not_pay_for_the_next(self) -> None:
        pulse = Pulse(0.0).beat(10**9, SPAN_S)
        assert pulse == Pulse(SPAN_S)
        assert pulse.beat(0, 2 * SPAN_S) is None


class Resting:
    """Stands for the event that ends the agent: who waits for it lets the clock go on."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock, self.ends_at_s = clock, float("inf")

    def is_set(self) -> bool:
        return self.clock.elapsed_s >= self.ends_at_s

    def wait(self, timeout_s: float) -> bool:
        self.clock.elapsed_s += timeout_s
        return self.is_set()


def pacer(manners: Manners, wanted: Callable[[], bool] = lambda: True, busy: Callable[[], bool] = lambda: False) -> tuple[Pacer, FakeClock]:
    clock = FakeClock()
    return Pacer(manners, clock, wanted=wanted, busy=busy, closing=Resting(clock)), clock


class TestPacer:
    def test_bytes_are_waited_for(self) -> None:
        polite, clock = pacer(Manners(rate_bytes_per_s=10_000))
        for _ in range(100):
            polite.took(4_000)
        assert clock.elapsed_s == polite.rested_s == pytest.approx(40.0, abs=0.5)

    def test_records_go_first_for_a_bounded_time(self) -> None:
        polite, clock = pacer(Manners(), busy=lambda: True)
        polite.before_request()
        assert clock.elapsed_s == 5.0

    def test_no_rest_outlasts_the_order(self) -> None:
        polite, clock = pacer(Manners(rate_bytes_per_s=1 << 10), wanted=lambda: clock.elapsed_s < 3)
        with pytest.raises(Retry) as caught:
            polite.took(1 << 20)
        assert (caught.value.code, clock.elapsed_s) == ("superseded", 3.0)

    def test_a_download_stops_when_its_window_closes(self) -> None:
        clock = FakeClock()
        closes = (clock.now() + timedelta(seconds=90)).astimezone(UTC).time().replace(second=0, microsecond=0)
        window = DailyWindow(clock.now().time().replace(second=0, microsecond=0), closes)
        polite = Pacer(
            Manners(rate_bytes_per_s=1 << 10, window=window), clock, wanted=lambda: True, busy=lambda: False, closing=Resting(clock)
        )
        with pytest.raises(Retry, match=r"go on at [0-9][0-9]:[0-9][0-9] UTC") as caught:
            polite.took(1 << 20)
        assert caught.value.code == "window"
