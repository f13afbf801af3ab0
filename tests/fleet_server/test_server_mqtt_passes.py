"""Shared passes: what is sent when, who is waited for, and what a hostile device cannot do. No threads, a clock that the test moves."""

from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet_contract import limits
from fleet_server.mqtt.passes import Group, Passes, PassRules
from fleet_server.mqtt.wants import Grid, Refused

RULES = PassRules(gather_s=0.5, patience_s=3.0, max_passes=2, max_members=3)
CREDIT, AHEAD = limits.CREDIT_PACKETS, limits.MAX_AHEAD_PACKETS
ALL = -1


def grid(name: str = "model", count: int = 100) -> Grid:
    """A file of `count` blocks, each of which fills a packet."""
    return Grid(f"targets/{name}", Path(name), count * limits.MAX_BLOCK_BYTES, limits.MAX_BLOCK_BYTES)


def bits(*numbers: int) -> int:
    return sum(1 << number for number in numbers)


@dataclass
class Stage:
    """Passes, and what they sent."""

    rules: PassRules = RULES
    now_s: float = 0.0
    sent: list[Group] = field(default_factory=list)

    def __post_init__(self) -> None:
        names = iter(f"pass-{number}" for number in range(100))
        self.passes = Passes(self.rules, lambda: next(names))

    def join(self, device: str, need: int = ALL, on: Grid = grid(), request: str = "want") -> None:
        everything = (1 << on.count) - 1
        self.passes.join(device, f"{request} of {device}", on, need & everything, self.now_s)

    def play(self, packets: int = 10_000) -> list[list[int]]:
        """Send as much as goes now, at most so many packets; the blocks of each."""
        begun = len(self.sent)
        while len(self.sent) - begun < packets and (group := self.passes.next(self.now_s)) is not None:
            self.passes.sent(group, 1_000, self.now_s)
            self.sent.append(group)
        return [list(group.numbers) for group in self.sent[begun:]]

    def report(self, *devices: str) -> None:
        """They have all that was sent."""
        for device in devices:
            self.passes.progress(device, self.sent[-1].pass_id, self.sent[-1].sequence)

    def wait(self, seconds: float) -> list[str]:
        """The devices that are let go meanwhile."""
        self.now_s += seconds
        return [leaver.device for leaver in self.passes.tick(self.now_s)]


def opened(*devices: str, **options) -> Stage:
    """A pass over 100 blocks that has just begun."""
    stage = Stage(**options)
    for device in devices:
        stage.join(device)
    stage.wait(0.5)
    return stage


def blocks(groups: list[list[int]]) -> list[int]:
    return [number for group in groups for number in group]


def test_a_pass_waits_for_others_before_its_first_packet() -> None:
    stage = Stage()
    stage.join("a")
    assert stage.play() == []
    assert stage.passes.wait_s(stage.now_s, 10.0) == 0.5
    stage.wait(0.5)
    assert stage.play() != []


def test_each_block_that_anyone_wants_is_sent_once_in_order() -> None:
    stage = Stage()
    for device, need in {"a": bits(1, 2, 5), "b": bits(2, 3), "c": bits(99)}.items():
        stage.join(device, need)
    stage.wait(0.5)
    assert blocks(stage.play()) == [1, 2, 3, 5, 99]
    assert [group.sequence for group in stage.sent] == [0, 1, 2, 3, 4]
    assert stage.passes.running == 0


@pytest.mark.parametrize(
    ("block_bytes", "a_packet"), [(4 * limits.KIB, 15), (8 * limits.KIB, 7), (16 * limits.KIB, 3), (32 * limits.KIB, 1)]
)
def test_a_packet_holds_as_many_blocks_as_may_be(block_bytes: int, a_packet: int) -> None:
    stage = Stage()
    count = AHEAD * a_packet - (a_packet > 1)
    stage.join("a", on=Grid("targets/model", Path("model"), count * block_bytes, block_bytes))
    stage.wait(0.5)
    sizes = [len(group) for group in stage.play()]
    assert max(sizes) == sizes[0] == a_packet
    assert (len(sizes), sum(sizes)) == (AHEAD, count)


def test_a_late_joiner_gets_what_went_by_at_the_end() -> None:
    stage = opened("a")
    assert blocks(stage.play()) == [*range(AHEAD)]
    stage.join("b", bits(3, 4, 90))
    stage.report("a", "b")
    rest: list[int] = []
    while group := stage.play(CREDIT):
        rest += blocks(group)
        stage.report("a", "b")
    assert rest == [*range(AHEAD, 100), 3, 4]


def test_no_more_than_the_window_is_sent_before_the_slowest() -> None:
    stage = opened("quick", "slow")
    assert len(stage.play()) == AHEAD
    stage.report("quick")
    assert stage.play() == []
    stage.passes.progress("slow", stage.sent[-1].pass_id, CREDIT)
    assert len(stage.play()) == CREDIT


@pytest.mark.parametrize("sequence", [CREDIT - 1, CREDIT], ids=["after-the-last-of-a-credit", "at-the-first-of-the-next"])
def test_a_full_credit_opens_the_window_by_as_much(sequence: int) -> None:
    stage = opened("a")
    stage.play()
    stage.passes.progress("a", "pass-0", sequence)
    assert len(stage.play()) == CREDIT


def test_who_has_been_sent_all_it_wanted_holds_nobody_up() -> None:
    stage = Stage()
    stage.join("small", bits(0, 1))
    stage.join("large")
    stage.wait(0.5)
    stage.play()
    stage.report("large")
    assert len(stage.play()) > 0
    assert stage.wait(2.9) == []


def test_a_device_that_reports_nothing_is_let_go_and_the_others_go_on() -> None:
    stage = opened("quick", "silent")
    stage.play()
    stage.report("quick")
    assert stage.wait(3.0) == []
    assert stage.wait(0.1) == ["silent"]
    while stage.play():
        stage.report("quick")
    assert blocks([list(group.numbers) for group in stage.sent]) == [*range(100)]


def test_who_was_let_go_may_not_hold_up_the_same_pass_again() -> None:
    stage = opened("quick", "silent")
    stage.play()
    stage.report("quick")
    stage.wait(3.1)
    with pytest.raises(Refused) as caught:
        stage.join("silent", request="another want")
    assert caught.value.code == "pass-left"


def just_in_time(stage: Stage, quick: list[str], slow: list[str], rounds: int) -> list[str]:
    """The slow ones report each credit when they have but a moment left; who is let go meanwhile."""
    left: list[str] = []
    for number in range(1, rounds + 1):
        stage.play()
        stage.report(*quick)
        for _ in range(29):
            left += stage.wait(0.1)
        for device in slow:
            stage.passes.progress(device, "pass-0", number * CREDIT)
    return left


def test_few_who_report_only_just_in_time_cannot_set_the_pace_of_most() -> None:
    stage = Stage(rules=PassRules(gather_s=0.0))
    for device in ("a", "b", "brake"):
        stage.join(device, on=grid(count=1_000))
    assert just_in_time(stage, ["a", "b"], ["brake"], 6) == ["brake"]


def test_a_fleet_that_is_slow_together_stays_together() -> None:
    stage = Stage(rules=PassRules(gather_s=0.0))
    for device in ("a", "b", "c"):
        stage.join(device, on=grid(count=1_000))
    assert just_in_time(stage, ["a"], ["b", "c"], 6) == []


def test_nobody_is_late_while_nothing_is_owed() -> None:
    stage = opened("a")
    stage.play(CREDIT)
    assert stage.wait(1_000.0) == []


def test_a_pass_ends_when_its_last_member_is_let_go() -> None:
    stage = opened("silent")
    stage.play()
    assert stage.wait(3.1) == ["silent"]
    assert (stage.passes.running, stage.play()) == (0, [])


def test_passes_take_turns() -> None:
    stage = Stage()
    stage.join("a", on=grid("one"))
    stage.join("b", on=grid("two"))
    stage.wait(0.5)
    stage.play(6)
    assert [group.grid.path for group in stage.sent] == ["targets/one", "targets/two"] * 3


def test_a_stalled_pass_holds_no_other_up() -> None:
    stage = Stage()
    stage.join("silent", on=grid("one"))
    stage.join("b", on=grid("two"))
    stage.wait(0.5)
    stage.play()
    stage.passes.progress("b", "pass-1", CREDIT)
    assert len(stage.play()) == CREDIT
    assert {group.grid.path for group in stage.sent[-CREDIT:]} == {"targets/two"}


def test_the_rate_of_all_passes_is_capped() -> None:
    stage = opened("a", rules=PassRules(max_bytes_per_s=2_000.0))
    sent = [len(stage.play())]
    for _ in range(4):
        stage.wait(0.5)
        sent.append(len(stage.play()))
    assert sent == [1, 1, 1, 1, 1]


def test_after_a_lost_connection_nobody_is_held_to_reports_that_were_lost_with_it() -> None:
    stage = opened("a")
    stage.play()
    stage.now_s += 60.0
    stage.passes.resume()
    assert stage.wait(0.0) == []
    assert len(stage.play()) == AHEAD


@pytest.mark.parametrize("sequence", [AHEAD, limits.MAX_COUNT], ids=["the-next", "far-ahead"])
def test_progress_beyond_what_was_sent_says_nothing(sequence: int) -> None:
    stage = opened("liar")
    stage.play()
    stage.passes.progress("liar", stage.sent[-1].pass_id, sequence)
    assert stage.play() == []
    assert stage.wait(3.1) == ["liar"]


@pytest.mark.parametrize(("device", "of"), [("stranger", "pass-0"), ("a", "pass-77")], ids=["no-member", "no-such-pass"])
def test_progress_of_nobody_is_ignored(device: str, of: str) -> None:
    stage = opened("a")
    stage.play()
    stage.passes.progress(device, of, AHEAD - 1)
    assert stage.play() == []


def test_the_same_want_twice_counts_once() -> None:
    stage = opened("a")
    stage.play(5)
    stage.join("a")
    assert blocks(stage.play(1)) == [5]
    assert stage.passes.members == 1


def test_a_new_want_replaces_the_one_before() -> None:
    stage = opened("a")
    stage.play(5)
    stage.join("a", bits(0), request="again")
    assert stage.passes.members == 1
    while stage.play():
        stage.report("a")
    assert stage.sent[-1].numbers == (0,)


def test_a_device_cannot_keep_a_pass_going_for_ever() -> None:
    stage = opened("a")
    with pytest.raises(Refused) as caught:
        for number in range(100):
            stage.join("a", request=f"want {number}")
    assert caught.value.code == "pass-left"


@pytest.mark.parametrize("on", [grid("one"), grid("other")], ids=["members", "passes"])
def test_what_finds_no_room_is_sent_away(on: Grid) -> None:
    stage = Stage(rules=PassRules(max_passes=1, max_members=1))
    stage.join("a", on=grid("one"))
    with pytest.raises(Refused) as caught:
        stage.join("b", on=on)
    assert caught.value.code == "pass-left"
    assert stage.passes.members == 1


def test_a_file_that_cannot_be_read_ends_its_pass_for_every_member() -> None:
    stage = opened("a", "b")
    stage.play(1)
    left = stage.passes.abandon(stage.sent[-1].pass_id, Refused("not-found", "gone"))
    assert [(leaver.device, leaver.request, leaver.why.code) for leaver in left] == [
        ("a", "want of a", "not-found"),
        ("b", "want of b", "not-found"),
    ]
    assert stage.passes.running == 0


DEVICES = st.sampled_from(["a", "b", "c"])
NEEDS = st.integers(1, (1 << 100) - 1)
EVENTS = st.one_of(
    st.tuples(st.just("join"), DEVICES, NEEDS),
    st.tuples(st.just("report"), DEVICES, st.integers(0, 300)),
    st.tuples(st.just("send"), st.integers(1, 40), st.none()),
    st.tuples(st.just("wait"), st.floats(0.0, 4.0), st.none()),
)


class Ledger:
    """What each member still has to be sent, and how many blocks were asked for in all."""

    def __init__(self) -> None:
        self.stage, self.owed, self.asked = Stage(), {}, 0

    def join(self, device: str, need: int) -> None:
        try:
            self.stage.join(device, need, request=str(self.asked))
        except Refused:
            return
        self.owed[device] = need
        self.asked += need.bit_count()

    def send(self, packets: int, _: object = None) -> bool:
        sent = blocks(self.stage.play(packets))
        self.owed = {device: need & ~bits(*set(sent)) for device, need in self.owed.items()}
        return bool(sent)

    def wait(self, seconds: float, _: object = None) -> None:
        for device in self.stage.wait(seconds):
            del self.owed[device]

    def report(self, device: str, sequence: int) -> None:
        for pass_id in ("pass-0", "pass-1"):
            self.stage.passes.progress(device, pass_id, sequence)


@settings(max_examples=150, deadline=None)
@given(st.lists(EVENTS, max_size=60))
def test_whatever_devices_do_who_stays_is_sent_all_it_wanted_and_no_want_costs_more_than_it_asks(events: list) -> None:
    ledger = Ledger()
    for kind, first, second in events:
        getattr(ledger, kind)(first, second)
    while ledger.stage.passes.running:
        if not ledger.send(1):
            ledger.wait(0.5)
    assert not any(ledger.owed.values())
    assert sum(len(group.numbers) for group in ledger.stage.sent) <= ledger.asked
