"""A board without a clock: what was signed is the floor of time, and no clock, however wrong, bricks a device or makes it take what has expired."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from edge_agent.errors import Retry
from edge_agent.trust.client import Trust
from edge_agent.trust.time import TrustedTime
from edge_agent.update.inbox import Addressee, Inbox
from edge_agent.update.state import State
from fleet_contract.order import Order
from tests.fakes.agent_repository import DEVICE, LIFETIME, PROFILE, MemoryRepository
from tests.fakes.agent_run_world import FakeStore
from tests.fakes.agent_time import WallClock
from tests.fakes.agent_world import MemoryFiles
from tests.fakes.small_bundle import small_bundle

BUILT, TODAY = datetime(2026, 11, 1, tzinfo=UTC), datetime(2027, 3, 1, tzinfo=UTC)
EPOCH, AHEAD = datetime(1970, 1, 1, tzinfo=UTC), TODAY + timedelta(days=3_650)
DAY = timedelta(days=1)


class Board:
    """A device and its server; `today` is the true time, `clock` what the device has."""

    def __init__(self, folder: Path, wall: datetime) -> None:
        self.folder, self.today = folder, TODAY
        self.repository = MemoryRepository(lambda: self.today)
        self.files = MemoryFiles(self.repository.files)
        self.archive = small_bundle()
        self.repository.publish(self.archive)
        self.clock = WallClock(wall)
        self.store = FakeStore()
        self.orders: list[Order] = []
        self.restart()

    def restart(self) -> None:
        self.time = TrustedTime(self.folder / "time.json", self.clock, BUILT)
        self.trust = Trust(self.folder / "tuf", self.repository.root_v1, self.files, self.time)
        self.inbox = Inbox(Addressee(DEVICE, PROFILE), self.trust, self.store, self.time)

    def live(self, days: float) -> None:
        """The true time passes while the device is off; the server signs anew."""
        self.today += days * DAY
        self.repository.renew_targets()
        self.repository.rotate_root()
        self.repository.commit()
        self.restart()

    def order(self, **changes: object) -> None:
        """One arrives and is settled."""
        self.inbox.put(self.repository.order(self.archive, len(self.orders) + 1, **changes))
        self.inbox.settle(State(), self.orders.append)

    def works(self) -> bool:
        before = len(self.orders)
        self.order()
        return len(self.orders) == before + 1


@pytest.fixture
def board(tmp_path: Path) -> Board:
    return Board(tmp_path, TODAY)


WALLS = [
    pytest.param(EPOCH, id="at 1970"),
    pytest.param(BUILT - 365 * DAY, id="a year before the agent was built"),
    pytest.param(TODAY - 5 * DAY, id="five days late"),
    pytest.param(TODAY, id="right"),
    pytest.param(TODAY + DAY, id="a day early"),
]


class TestUpdates:
    @pytest.mark.parametrize("wall", WALLS)
    def test_go_on_whatever_the_clock_says_below_the_truth(self, tmp_path: Path, wall: datetime) -> None:
        board = Board(tmp_path, wall)
        assert board.works()
        for _ in range(3):
            board.live(days=20)
            board.clock.set(wall)
            assert board.works()

    @pytest.mark.parametrize("wall", WALLS)
    def test_a_clock_that_is_set_in_between(self, board: Board, wall: datetime) -> None:
        assert board.works()
        board.clock.set(wall)
        assert board.works()

    def test_a_clock_ten_years_ahead_refuses_and_says_why_and_all_is_well_once_it_is_right(self, board: Board) -> None:
        assert board.works()
        board.clock.set(AHEAD)
        board.restart()
        with pytest.raises(Retry, match="is the clock right") as caught:
            board.trust.refresh()
        assert caught.value.code == "tuf-expired"
        board.clock.set(TODAY)
        assert board.works()
        board.restart()
        assert board.works()

    def test_an_order_that_came_while_the_clock_was_ahead_waits_until_it_is_right(self, board: Board) -> None:
        board.clock.set(AHEAD)
        with pytest.raises(Retry):
            board.order()
        board.clock.set(TODAY)
        board.inbox.settle(State(), board.orders.append)
        assert len(board.orders) == 1

    def test_an_order_judged_expired_by_a_clock_that_is_set_right_later_is_judged_again(self, board: Board) -> None:
        board.clock.set(TODAY + 8 * DAY)
        board.order()
        assert board.orders == []
        board.clock.set(TODAY)
        board.inbox.settle(State(), board.orders.append)
        assert len(board.orders) == 1

    def test_a_clock_that_steps_back_within_an_update(self, board: Board) -> None:
        board.trust.refresh()
        board.clock.set(EPOCH)
        assert board.trust.target("bundles/toy-1.0.0.bundle")
        assert board.works()


class TestExpired:
    @pytest.mark.parametrize("wall", [pytest.param(EPOCH, id="at 1970"), pytest.param(TODAY + LIFETIME, id="right")])
    def test_what_has_expired_at_the_newest_signed_time_is_refused(self, board: Board, wall: datetime) -> None:
        board.trust.refresh()
        stale = dict(board.repository.files)
        board.live(days=LIFETIME.days + 1)
        board.trust.refresh()
        board.clock.set(wall)
        (board.folder / "tuf" / "floor").unlink()
        board.files.files = stale
        for name in ("timestamp", "snapshot", "targets"):
            (board.folder / "tuf" / f"{name}.json").unlink()
        board.restart()
        with pytest.raises(Retry):
            board.trust.refresh()

    def test_time_goes_on_for_a_clock_that_stands_in_the_past(self, board: Board) -> None:
        board.clock.set(EPOCH)
        board.trust.refresh()
        board.clock.pass_s(LIFETIME.total_seconds() + 1)
        with pytest.raises(Retry) as caught:
            board.trust.refresh()
        assert caught.value.code == "tuf-expired"

    def test_an_order_that_has_expired_at_the_newest_signed_time(self, board: Board) -> None:
        envelope = board.repository.order(board.archive, 9)
        board.live(days=8)
        board.clock.set(EPOCH)
        board.inbox.put(envelope)
        board.inbox.settle(State(), board.orders.append)
        assert board.orders == []
        assert board.store.records[-1].detail["code"] == "order-expired"

    def test_nothing_from_before_the_agent_was_built(self, tmp_path: Path) -> None:
        board = Board(tmp_path, EPOCH)
        board.today = BUILT - LIFETIME - DAY
        board.repository = MemoryRepository(lambda: board.today)
        board.files.files = board.repository.files
        board.restart()
        with pytest.raises(Retry) as caught:
            board.trust.refresh()
        assert caught.value.code == "tuf-expired"


def _order_says(at: datetime) -> Callable[[Board], None]:
    return lambda board: board.order(issued_at=at, not_after=at + 7 * DAY)


def _timestamp_says(said: object) -> Callable[[Board], None]:
    def say(board: Board) -> None:
        board.repository.commit(signed_at=said, expires=AHEAD + DAY)
        board.trust.refresh()

    return say


class TestTheFloor:
    def test_rises_with_what_is_signed_and_survives_a_restart(self, board: Board) -> None:
        board.clock.set(EPOCH)
        assert board.time.floor() == BUILT
        board.trust.refresh()
        assert board.time.floor() == TODAY
        board.restart()
        assert board.time.now() == TODAY

    def test_rises_with_a_verified_order(self, board: Board) -> None:
        board.clock.set(EPOCH)
        board.trust.refresh()
        board.today += DAY
        board.order()
        assert board.time.floor() == TODAY + DAY

    def test_never_rises_with_the_wall_clock(self, board: Board) -> None:
        board.trust.refresh()
        board.clock.set(AHEAD)
        board.time.now()
        board.clock.set(EPOCH)
        assert board.time.now() == TODAY

    @pytest.mark.parametrize(
        "say",
        [
            pytest.param(_timestamp_says((TODAY + LIFETIME + DAY).isoformat()), id="a timestamp later than the root lives"),
            pytest.param(_timestamp_says("tomorrow"), id="a timestamp that says no time"),
            pytest.param(_timestamp_says("2027-04-01T00:00:00"), id="a timestamp without a time zone"),
            pytest.param(_timestamp_says(["2027-04-01"]), id="a timestamp that says a list"),
            pytest.param(_order_says(TODAY + LIFETIME + DAY), id="an order later than the metadata lives"),
        ],
    )
    def test_does_not_rise_with(self, board: Board, say: Callable[[Board], None]) -> None:
        board.clock.set(EPOCH)
        board.trust.refresh()
        say(board)
        assert board.time.floor() == TODAY
        board.today += DAY
        board.repository.commit()
        assert board.works()

    def test_a_liar_does_not_outlast_his_key(self, board: Board) -> None:
        board.repository.commit(signed_at=(TODAY + 29 * DAY).isoformat())
        board.trust.refresh()
        assert board.time.now() == TODAY + 29 * DAY
        board.today += 2 * DAY
        board.repository.rotate_root(replace_timestamp_key=True)
        board.repository.commit()
        board.clock.set(board.today)
        board.restart()
        assert board.works()
        assert board.time.now() == board.today

    def test_a_damaged_file_is_a_lost_floor_and_no_more(self, board: Board) -> None:
        board.trust.refresh()
        (board.folder / "time.json").write_bytes(b"\xff")
        board.clock.set(EPOCH)
        board.restart()
        assert board.time.floor() == BUILT
        assert board.works()
