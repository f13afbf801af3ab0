"""The pure rules of an update: transitions, decisions, probation, the ledger of slots."""

from datetime import UTC, datetime, timedelta

import pytest

from edge_agent.update import phases
from edge_agent.update.phases import Phase, Step
from edge_agent.update.planner import Decision, accept, decide
from edge_agent.update.probation import Conduct, Terms, Verdict, judge
from edge_agent.update.state import MAX_QUARANTINED, Installed, State, quarantine
from fleet_contract.errors import OrderReplayed
from fleet_contract.order import Order

AT = datetime(2026, 1, 1, tzinfo=UTC)
OLD, NEW, OTHER = "a" * 64, "b" * 64, "c" * 64


def order(sha256: str = NEW, counter: int = 2) -> Order:
    return Order(
        device="dev-1",
        profile="generic-x86-64",
        counter=counter,
        issued_at=AT,
        not_after=AT + timedelta(days=1),
        target_path="bundles/toy-1.bundle",
        sha256=sha256,
        length=10,
    )


def installed(sha256: str, slot: str = "a") -> Installed:
    return Installed(slot=slot, sha256=sha256, length=10)


def test_every_phase_can_be_left_and_every_phase_can_be_reached() -> None:
    left = {phase for phase, _ in phases.TABLE}
    assert left == set(Phase) == set(phases.TABLE.values())


def test_every_phase_but_idle_leads_back_to_idle() -> None:
    for phase in Phase:
        reached, frontier = set(), {phase}
        while frontier:
            reached |= frontier
            frontier = {after for (before, _), after in phases.TABLE.items() if before in frontier} - reached
        assert Phase.IDLE in reached


def test_a_step_that_is_not_in_the_table_is_refused() -> None:
    with pytest.raises(ValueError, match="idle cannot be proven"):
        phases.after(Phase.IDLE, Step.PROVEN)


RUNNING = State(active=installed(OLD), order=order())
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
        pytest.param(State(active=installed(NEW), order=order()), True, Decision.REVERT, id="a person wants back"),
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
        pytest.param(
            State(phase=Phase.PROBATION, order=order(), candidate=installed(NEW)), True, Decision.SUPERSEDE, id="recalled on probation"
        ),
    ],
)
def test_decisions(state: State, recall: bool, decision: Decision) -> None:
    assert decide(state, recall=recall) is decision


class TestAccept:
    def test_a_newer_order_replaces_the_old_one_and_nothing_else(self) -> None:
        after = accept(BUSY, order(OTHER, 3))
        assert (after.counter, after.order, after.candidate, after.active) == (3, order(OTHER, 3), BUSY.candidate, BUSY.active)

    def test_the_same_order_again_keeps_the_error_of_its_bundle(self) -> None:
        assert accept(State(order=order(), error="wrong-answer: 7 is not 8"), order()).error == "wrong-answer: 7 is not 8"

    def test_a_newer_order_forgets_the_error(self) -> None:
        assert accept(State(order=order(), error="x: y"), order(counter=3)).error is None

    def test_one_counter_cannot_name_two_bundles(self) -> None:
        with pytest.raises(OrderReplayed, match="counter 2 was already used"):
            accept(RUNNING, order(OTHER, 2))


@pytest.mark.parametrize(
    ("conduct", "elapsed_s", "verdict"),
    [
        pytest.param(Conduct(NEW, answered=16), 1, Verdict.PASSED, id="enough answers"),
        pytest.param(Conduct(NEW, answered=15), 1, Verdict.WAIT, id="not enough answers yet"),
        pytest.param(Conduct(NEW, answered=99, crashes=1), 1, Verdict.FAILED, id="a crash"),
        pytest.param(Conduct(OLD, answered=99), 1, Verdict.WAIT, id="the old bundle's answers"),
        pytest.param(Conduct(OLD, crashes=5), 1, Verdict.WAIT, id="the old bundle's crashes"),
        pytest.param(Conduct(), 10, Verdict.PASSED, id="no input at all for long enough"),
        pytest.param(Conduct(NEW, crashes=1), 10, Verdict.FAILED, id="time does not heal a crash"),
    ],
)
def test_probation(conduct: Conduct, elapsed_s: float, verdict: Verdict) -> None:
    assert judge(conduct, NEW, elapsed_s, Terms(inputs=16, time_s=10)) is verdict


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
