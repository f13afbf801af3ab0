"""Records made before the wall clock was right are dated again by the monotonic clock; what a source dated stays."""

from datetime import UTC, datetime, timedelta

import pytest

from edge_agent import dating
from edge_agent.ports import Reading
from edge_agent.timekeeper import Timekeeper
from fleet_contract import batches, columns
from fleet_contract.instants import microseconds
from fleet_contract.messages import Event, Lane, Result, Sample, SketchWindow, decode_record
from fleet_contract.sketch import Sketch
from tests.fakes.agent_time import WallClock

WRONG = datetime(1970, 1, 2, tzinfo=UTC)
RIGHT = datetime(2026, 5, 1, tzinfo=UTC)
S = timedelta(seconds=1)
OWN = datetime(2001, 1, 1, tzinfo=UTC)
"""Dated by its source."""
READING = Reading(WRONG + 100 * S, 100_000_000, "boot", "untrusted")
OFFSET_US = microseconds(RIGHT)


def result(at: datetime) -> Result:
    return Result(at=at, bundle="b", input_id="i", label=None, value=0.0, latency_us=1)


def event(at: datetime) -> Event:
    return Event(at=at, kind="k")


@pytest.mark.parametrize(
    ("at", "mono_s"),
    [
        pytest.param(WRONG + 98.5 * S, 98.5, id="before the commit"),
        pytest.param(WRONG + 101 * S, 100, id="in the future: its source's"),
        pytest.param(OWN, 100, id="long ago: its source's"),
        pytest.param(WRONG + 30 * S, 100, id="more than a minute ago"),
    ],
)
def test_the_monotonic_time_of_a_record(at: datetime, mono_s: float) -> None:
    assert dating.mono_us([event(at)], READING) == [mono_s * 1e6]


@pytest.mark.parametrize("lane", [Lane.TELEMETRY, Lane.EVENTS])
def test_dated_again(lane: Lane) -> None:
    make = result if lane is Lane.TELEMETRY else event
    records = [make(WRONG + 98 * S), make(OWN), make(WRONG + 99 * S)]
    made = batches.make("e", lane, 7, records, mono_us=dating.mono_us(records, READING), boot="boot")
    again = dating.redate(made, READING.offset_us, OFFSET_US)
    assert (again.clock, again.first, again.count, again.boot) == ("corrected", 7, 3, "boot")
    content = batches.unpack(again)
    found = columns.to_results(content) if isinstance(content, columns.ResultColumns) else [decode_record(r) for r in content.records]
    assert [record.at for record in found] == [RIGHT + 98 * S, OWN, RIGHT + 99 * S]


def test_a_window_keeps_its_length() -> None:
    window = SketchWindow(start=WRONG + 90 * S, end=WRONG + 99 * S, bundle="b", first_input=0, inputs=1, sketch=Sketch(0, b"", b"", b""))
    made = batches.make("e", Lane.SKETCHES, 0, [window], mono_us=dating.mono_us([window], READING), boot="boot")
    (wire,) = batches.unpack(dating.redate(made, READING.offset_us, OFFSET_US)).records
    found = decode_record(wire)
    assert (found.start, found.end) == (RIGHT + 90 * S, RIGHT + 99 * S)


def test_a_sample_too() -> None:
    sample = Sample(at=WRONG + 99 * S, bundle="b", campaign="c", input_id="i", media_type="m", data=b"d", label=None, value=0.0)
    made = batches.make("e", Lane.SAMPLES, 0, [sample], mono_us=[99_000_000], boot="boot")
    (wire,) = batches.unpack(dating.redate(made, READING.offset_us, OFFSET_US)).records
    assert decode_record(wire).at == RIGHT + 99 * S


class Floored(WallClock):
    floor = WRONG

    def behind(self) -> bool:
        return self.now() < self.floor


class World:
    def __init__(self) -> None:
        self.clock, self.synchronised = Floored(RIGHT), False
        self.keeper = Timekeeper(self.clock, "boot", lambda: int(self.clock.monotonic_s() * 1e6), lambda: self.synchronised)

    def state(self) -> str:
        self.clock.pass_s(1.0)
        return self.keeper.reading().state


class TestTrust:
    def test_not_before_something_has_set_it(self) -> None:
        world = World()
        assert world.state() == "untrusted"
        world.clock.set(RIGHT + timedelta(days=1))
        world.synchronised = True
        assert world.state() == "trusted"

    def test_through_hours_without_a_network(self) -> None:
        world = World()
        world.synchronised = True
        assert world.state() == "trusted"
        world.synchronised = False
        world.clock.pass_s(50_000)
        assert world.state() == "trusted"

    def test_not_after_a_jump_that_nothing_disciplined(self) -> None:
        world = World()
        world.synchronised = True
        world.state()
        world.synchronised = False
        world.clock.set(WRONG)
        assert world.keeper.reading().state == "untrusted", "seen at the first look, not a second later"

    def test_not_against_what_was_signed(self) -> None:
        world = World()
        world.synchronised, world.clock.floor = True, RIGHT + timedelta(days=9)
        assert world.state() == "untrusted"
