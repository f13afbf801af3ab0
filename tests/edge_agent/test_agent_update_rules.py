"""The pure rules of an update: transitions, decisions, probation, the ledger of slots."""

import random
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest

from edge_agent.errors import Reject
from edge_agent.ports import Conduct
from edge_agent.update import phases
from edge_agent.update.phases import TABLE, Phase, Step
from edge_agent.update.planner import Decision, accept, beside, decide, pardon
from edge_agent.update.probation import Terms, Verdict, beyond, judge, overdue
from edge_agent.update.state import MAX_QUARANTINED, Installed, Reliability, State, quarantine
from edge_agent.update.verdicts import changes_for, exhausted, step_for
from fleet_contract.errors import OrderReplayed
from fleet_contract.order import Order

AT = datetime(2026, 1, 1, tzinfo=UTC)
OLD, NEW, OTHER = "a" * 64, "b" * 64, "c" * 64


def order(sha256: str = NEW, counter: int = 2, *, shadow: bool | msgspec.UnsetType = msgspec.UNSET) -> Order:
    return Order(
        device="dev-1",
        profile="generic-x86-64",
        counter=counter,
        issued_at=AT,
        not_after=AT + timedelta(days=1),
        target_path="bundles/toy-1.bundle",
        sha256=sha256,
        length=10,
        shadow=shadow,
    )


def installed(sha256: str, slot: str = "a") -> Installed:
    return Installed(slot=slot, sha256=sha256, length=10)


class TestTable:
    def test_every_phase_can_be_left_and_every_phase_can_be_reached(self) -> None:
        assert {phase for phase, _ in TABLE} == set(Phase) == {move.after for move in TABLE.values()}

    def test_every_phase_but_idle_leads_back_to_idle(self) -> None:
        for phase in Phase:
            reached, frontier = set(), {phase}
            while frontier:
                reached |= frontier
                frontier = {move.after for (before, _), move in TABLE.items() if before in frontier} - reached
            assert Phase.IDLE in reached

    @pytest.mark.parametrize("phase", [phase for phase in Phase if phase is not Phase.IDLE])
    def test_a_start_and_the_end_of_the_budget_are_moves_like_any_other(self, phase: Phase) -> None:
        assert phases.move(phase, Step.RESTARTED).after is phase
        assert phases.move(phase, Step.EXHAUSTED).after in (Phase.IDLE, Phase.REVERTING)

    def test_a_step_that_is_not_in_the_table_is_refused(self) -> None:
        with pytest.raises(ValueError, match="idle cannot be proven"):
            phases.move(Phase.IDLE, Step.PROVEN)

    @pytest.mark.parametrize("seed", range(200))
    def test_one_order_ends_whatever_happens(self, seed: int) -> None:
        """Every step of the table may come at any time, but a person calls a device back only while there is something to go back to."""
        chance, phase, spent, moves = random.Random(seed), Phase.FETCHING, 1, 0
        while options := _open_to(phase, spent):
            step = chance.choice(options)
            phase, spent, moves = phases.move(phase, step).after, spent + phases.move(phase, step).cost, moves + 1
            assert moves <= 2 * phases.BUDGET
        assert phase is Phase.IDLE

    def test_what_ends_an_update_can_always_be_paid(self) -> None:
        ends = [(phase, step) for (phase, step), move in TABLE.items() if move.after is Phase.IDLE]
        assert all(phases.affordable(phase, step, phases.BUDGET + 100) for phase, step in ends)


def _open_to(phase: Phase, spent: int) -> list[Step]:
    """What may happen next; when the order cannot pay for it, it is exhausted instead."""
    steps = [step for before, step in TABLE if before is phase and (before, step) != (Phase.IDLE, Step.RECALLED)]
    if phase is Phase.IDLE:
        return [step for step in steps if phases.affordable(phase, step, spent)]
    return [step if phases.affordable(phase, step, spent) else Step.EXHAUSTED for step in steps]


RUNNING = State(active=installed(OLD), order=order())
AS_SHADOW = order(shadow=True)
SHADOWED = State(active=installed(OLD), order=AS_SHADOW, shadow=installed(NEW, "b"))
BUSY = State(active=installed(OLD), order=order(), candidate=installed(NEW, "b"))


@pytest.mark.parametrize(
    ("state", "recall", "decision"),
    [
        pytest.param(State(), False, Decision.NOTHING, id="no order yet"),
        pytest.param(State(order=order()), False, Decision.START, id="a first order"),
        pytest.param(RUNNING, False, Decision.START, id="an order for another bundle"),
        pytest.param(State(active=installed(NEW), order=order()), False, Decision.NOTHING, id="it runs already"),
        pytest.param(State(order=order(), quarantined=(NEW,)), False, Decision.NOTHING, id="it was rejected here before"),
        pytest.param(State(order=order(), given_up=2), False, Decision.NOTHING, id="the order was given up"),
        pytest.param(State(order=order(counter=3), given_up=2), False, Decision.START, id="a newer order than the one given up"),
        pytest.param(State(order=order(), spent=phases.BUDGET), False, Decision.NOTHING, id="the order is used up"),
        pytest.param(State(active=installed(NEW), order=order()), True, Decision.REVERT, id="a person wants back"),
        pytest.param(State(active=installed(OLD), order=AS_SHADOW), False, Decision.START, id="a shadow that is not here"),
        pytest.param(SHADOWED, False, Decision.NOTHING, id="a shadow that is here"),
        pytest.param(State(active=installed(NEW), order=AS_SHADOW), False, Decision.NOTHING, id="a shadow of itself"),
        pytest.param(msgspec.structs.replace(SHADOWED, order=order()), False, Decision.START, id="the shadow is to answer"),
        pytest.param(msgspec.structs.replace(SHADOWED, order=order(OLD)), False, Decision.NOTHING, id="the shadow has done its work"),
        pytest.param(
            State(phase=Phase.PROBATION, order=AS_SHADOW, candidate=installed(NEW)), False, Decision.SUPERSEDE, id="what answers must not"
        ),
        *(
            pytest.param(State(phase=phase, order=AS_SHADOW, candidate=installed(NEW)), False, Decision.NOTHING, id=f"{phase} a shadow")
            for phase in (Phase.FETCHING, Phase.VERIFYING, Phase.PROVING)
        ),
        *(
            pytest.param(State(phase=phase, order=order(), candidate=installed(NEW)), False, Decision.NOTHING, id=f"go on {phase}")
            for phase in Phase
            if phase is not Phase.IDLE
        ),
        *(
            pytest.param(
                State(phase=phase, order=order(OTHER), candidate=installed(NEW)), False, Decision.SUPERSEDE, id=f"replaced {phase}"
            )
            for phase in (Phase.FETCHING, Phase.VERIFYING, Phase.PROVING, Phase.PROBATION)
        ),
        *(
            pytest.param(State(phase=phase, order=order(OTHER), candidate=installed(NEW)), False, Decision.NOTHING, id=f"finish {phase}")
            for phase in (Phase.SWITCHING, Phase.REVERTING)
        ),
        *(
            pytest.param(State(phase=phase, order=order(), candidate=installed(NEW)), True, Decision.REVERT, id=f"recalled {phase}")
            for phase in (Phase.FETCHING, Phase.VERIFYING, Phase.PROVING, Phase.PROBATION)
        ),
        *(
            pytest.param(State(phase=phase, order=order(), candidate=installed(NEW)), True, Decision.NOTHING, id=f"recalled later {phase}")
            for phase in (Phase.SWITCHING, Phase.REVERTING)
        ),
    ],
)
def test_decisions(state: State, recall: bool, decision: Decision) -> None:
    assert decide(state, recall=recall) is decision


@pytest.mark.parametrize(
    ("changes", "runs"),
    [
        pytest.param({}, True, id="as ordered"),
        pytest.param({"order": None}, False, id="its order is trusted no more"),
        pytest.param({"order": order()}, False, id="it is to answer"),
        pytest.param({"order": order(OTHER, shadow=True)}, False, id="another shadow is wanted"),
        pytest.param({"order": order(OLD)}, False, id="it has done its work"),
        pytest.param({"shadow": None}, False, id="it is not here"),
        *(pytest.param({"phase": phase}, False, id=phase) for phase in Phase if phase is not Phase.IDLE),
    ],
)
def test_what_runs_beside_the_active_bundle(changes: dict, runs: bool) -> None:
    assert beside(msgspec.structs.replace(SHADOWED, **changes)) == (SHADOWED.shadow if runs else None)


class TestAccept:
    def test_a_newer_order_replaces_the_old_one_and_nothing_else(self) -> None:
        after = accept(BUSY, order(OTHER, 3))
        assert (after.counter, after.order, after.candidate, after.active) == (3, order(OTHER, 3), BUSY.candidate, BUSY.active)

    def test_the_same_order_again_keeps_the_error_of_its_bundle(self) -> None:
        assert accept(State(order=order(), error="wrong-answer: 7 is not 8"), order()).error == "wrong-answer: 7 is not 8"

    def test_a_newer_order_forgets_the_error(self) -> None:
        assert accept(State(order=order(), error="x: y"), order(counter=3)).error is None

    def test_it_begins_with_a_whole_budget_and_the_same_again_does_not(self) -> None:
        assert accept(State(order=order(), spent=200), order(counter=3)).spent == 0
        assert accept(State(order=order(), spent=200), order()).spent == 200

    def test_one_counter_cannot_name_two_bundles(self) -> None:
        with pytest.raises(OrderReplayed, match="counter 2 was already used"):
            accept(RUNNING, order(OTHER, 2))

    def test_nor_say_of_one_that_it_answers_and_that_it_must_not(self) -> None:
        with pytest.raises(OrderReplayed, match="counter 2 was already used"):
            accept(RUNNING, AS_SHADOW)


def test_a_pardon_tries_the_order_again() -> None:
    rejected = State(order=order(), quarantined=(NEW,), given_up=2, spent=phases.BUDGET)
    assert (decide(rejected), decide(pardon(rejected))) == (Decision.NOTHING, Decision.START)


TERMS = Terms(inputs=16, time_s=10, longest_s=60)
NEVER_FAILED = Reliability(requests=1_000)
OFTEN_FAILED = Reliability(requests=1_000, errors=100)


@pytest.mark.parametrize(
    ("conduct", "rival", "elapsed_s", "verdict", "code"),
    [
        pytest.param(Conduct(answered=16, requests=1), NEVER_FAILED, 1, Verdict.PASSED, "", id="enough answers"),
        pytest.param(Conduct(answered=15, requests=1), NEVER_FAILED, 1, Verdict.WAIT, "", id="not enough answers yet"),
        pytest.param(Conduct(), NEVER_FAILED, 10, Verdict.PASSED, "", id="no input at all for long enough"),
        pytest.param(Conduct(answered=16, requests=1, crashes=1), NEVER_FAILED, 1, Verdict.PASSED, "", id="one lost worker"),
        pytest.param(Conduct(crashes=2), NEVER_FAILED, 1, Verdict.FAILED, "crash", id="a crash, and again"),
        pytest.param(Conduct(crashes=2), NEVER_FAILED, 10, Verdict.FAILED, "crash", id="time does not heal a crash"),
        pytest.param(Conduct(answered=99, requests=99, hangs=1), NEVER_FAILED, 1, Verdict.FAILED, "hang", id="a hang"),
        pytest.param(Conduct(answered=99, requests=99, non_finite=1), NEVER_FAILED, 1, Verdict.FAILED, "non-finite", id="NaN"),
        pytest.param(Conduct(answered=99, requests=99, wrong=1), NEVER_FAILED, 1, Verdict.FAILED, "wrong-answer", id="another shape"),
        pytest.param(Conduct(answered=99, requests=99, over_memory=1), NEVER_FAILED, 1, Verdict.FAILED, "memory", id="too much memory"),
        pytest.param(Conduct(answered=16, requests=4, slow=3), NEVER_FAILED, 1, Verdict.FAILED, "slow", id="most answers too late"),
        pytest.param(Conduct(answered=16, requests=4, slow=2), NEVER_FAILED, 1, Verdict.PASSED, "", id="half of them late"),
        pytest.param(Conduct(answered=1, requests=1, slow=1), NEVER_FAILED, 1, Verdict.WAIT, "", id="one late answer says nothing"),
        pytest.param(Conduct(answered=90, requests=90, non_finite=10), OFTEN_FAILED, 1, Verdict.PASSED, "", id="no worse than the rival"),
        pytest.param(
            Conduct(answered=70, requests=70, non_finite=30), OFTEN_FAILED, 1, Verdict.FAILED, "non-finite", id="three times worse"
        ),
        pytest.param(
            Conduct(answered=80, requests=80, non_finite=12, hangs=12), OFTEN_FAILED, 1, Verdict.FAILED, "errors", id="worse in sum"
        ),
        pytest.param(Conduct(answered=9, requests=9, hangs=1), Reliability(), 1, Verdict.FAILED, "hang", id="without a rival"),
    ],
)
def test_probation(conduct: Conduct, rival: Reliability, elapsed_s: float, verdict: Verdict, code: str) -> None:
    finding = judge(conduct, rival, elapsed_s, TERMS)
    assert (finding.verdict, finding.code.removeprefix("probation-")) == (verdict, code)


def test_a_bundle_that_cannot_be_examined_is_given_up_in_the_end() -> None:
    assert [overdue(elapsed_s, TERMS).verdict for elapsed_s in (59, 60)] == [Verdict.WAIT, Verdict.FAILED]


def test_only_what_came_after_the_switch_counts() -> None:
    assert beyond(Conduct(answered=30, requests=9, crashes=2), Conduct(answered=20, requests=5, crashes=2)) == Conduct(
        answered=10, requests=4
    )


BAD_DISK, KILLED, BAD, CROWDED = (Reject("x", code=code) for code in ("bad-digest", "child-crash", "wrong-answer", "no-room"))


@pytest.mark.parametrize(
    ("phase", "lost", "error", "step"),
    [
        pytest.param(Phase.FETCHING, 0, BAD, Step.REJECTED, id="no such file"),
        pytest.param(Phase.VERIFYING, 0, BAD_DISK, Step.DAMAGED, id="the disk lost it"),
        pytest.param(Phase.PROVING, 0, BAD_DISK, Step.DAMAGED, id="edited before its proof"),
        pytest.param(Phase.SWITCHING, 0, BAD_DISK, Step.DAMAGED, id="edited between check and use"),
        pytest.param(Phase.PROVING, 0, KILLED, Step.LOST, id="a worker is killed"),
        pytest.param(Phase.PROVING, 1, KILLED, Step.REJECTED, id="and killed again"),
        pytest.param(Phase.SWITCHING, 0, KILLED, Step.LOST, id="killed while it starts"),
        pytest.param(Phase.PROVING, 0, BAD, Step.REJECTED, id="a wrong answer"),
        pytest.param(Phase.PROVING, 0, CROWDED, Step.REJECTED, id="no room beside what serves"),
        pytest.param(Phase.PROBATION, 0, BAD, Step.REJECTED, id="a wrong answer on probation"),
        pytest.param(Phase.REVERTING, 0, BAD, None, id="a way back has no way back"),
    ],
)
def test_what_a_failure_means(phase: Phase, lost: int, error: Reject, step: Step | None) -> None:
    assert step_for(State(phase=phase, lost=lost, candidate=installed(NEW)), error) is step


@pytest.mark.parametrize(
    ("phase", "blamed"),
    [
        pytest.param(phase, phase in (Phase.PROVING, Phase.SWITCHING, Phase.PROBATION), id=phase)
        for phase in Phase
        if phase is not Phase.IDLE
    ],
)
def test_an_order_is_used_up_by_its_bundle_only_where_that_runs(phase: Phase, blamed: bool) -> None:
    state = State(phase=phase, candidate=installed(NEW))
    assert (NEW in changes_for(state, Step.EXHAUSTED, exhausted(state))["quarantined"]) is blamed


@pytest.mark.parametrize(
    ("active", "idle"),
    [pytest.param(None, "a", id="nothing yet"), pytest.param("a", "b", id="a runs"), pytest.param("b", "a", id="b runs")],
)
def test_the_idle_slot_is_never_the_active_one(active: str | None, idle: str) -> None:
    assert State(active=installed(OLD, active) if active else None).idle_slot == idle


def test_quarantine_is_bounded_and_holds_each_digest_once() -> None:
    state = State()
    for number in [*range(MAX_QUARANTINED + 5), MAX_QUARANTINED]:
        state = State(quarantined=quarantine(state, str(number)))
    assert len(state.quarantined) == len(set(state.quarantined)) == MAX_QUARANTINED
    assert state.quarantined[-1] == str(MAX_QUARANTINED)


def test_the_document_shows_this_table() -> None:
    text = (Path(__file__).parents[2] / "docs/update.md").read_text()
    shown = text.partition("<!-- the table of edge_agent/update/phases.py -->\n")[2].partition("<!-- end -->")[0]
    rows = [f"| {phase} | {step} | {move.after} | {move.cost} |" for (phase, step), move in phases.TABLE.items()]
    assert shown.splitlines() == ["| while | and it is | then | cost |", "|---|---|---|---|", *rows]
    assert f"budget of {phases.BUDGET}." in text
    assert f"The last {MAX_QUARANTINED} are kept" in text
