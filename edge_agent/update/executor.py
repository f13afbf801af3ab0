"""Brings the device to the state that its order names, one journalled step at a time."""

import logging
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from edge_agent.errors import Reject, Retry, Unproven
from edge_agent.ports import Conduct
from edge_agent.update import acts, phases, reports, verdicts
from edge_agent.update.acts import Outcome
from edge_agent.update.company import Company
from edge_agent.update.inbox import Verified
from edge_agent.update.parts import Parts
from edge_agent.update.phases import Phase, Step
from edge_agent.update.planner import Decision, accept, beside, decide, disown, pardon
from edge_agent.update.requests import PARDON, ROLLBACK
from edge_agent.update.slots import DAMAGED
from edge_agent.update.state import Installed, State
from fleet_contract.messages import Event

log = logging.getLogger(__name__)

_MAX_FAILED_STARTS = 3
"""What has passed its probation once gets more than one chance on a machine that is busy starting."""
_ON_TRIAL = frozenset({Phase.SWITCHING, Phase.PROBATION, Phase.REVERTING})


class Executor:
    """`turn` is called by one thread; `state`, `on_trial` and `close` by any."""

    def __init__(self, parts: Parts, state: State) -> None:
        self._parts = parts
        self._state = state
        self._recovered = self._up = self._closing = False
        self._failed_starts = 0
        self._checked_s = self._switched_s = parts.clock.monotonic_s()
        self._conduct_before = Conduct()
        self._company = Company(parts, self._report)
        self._acts: dict[Phase, Callable[[], Outcome | None]] = {
            Phase.FETCHING: lambda: acts.fetch(parts, self._state, self._wanted()),
            Phase.VERIFYING: lambda: acts.verify(parts, self._state),
            Phase.PROVING: lambda: acts.prove(parts, self._state),
            Phase.SWITCHING: self._switch,
            Phase.PROBATION: lambda: acts.watch(parts, self._state, self._conduct_before, parts.clock.monotonic_s() - self._switched_s),
            Phase.REVERTING: self._revert,
        }

    @property
    def state(self) -> State:
        return self._state

    @property
    def on_trial(self) -> bool:
        """The bundle that answers now may soon be another."""
        return self._state.phase in _ON_TRIAL

    def close(self) -> None:
        """Let a download end at once, to go on at the next start."""
        self._closing = True

    def turn(self) -> bool:
        """Do the next step; whether there may be another at once. Raises Retry: nothing has changed, the same step comes again."""
        before = self._state
        held_up = [self._recover(), self._settle()]
        self._inspect()
        self._grant_pardon()
        self._keep_company()
        try:
            self._follow(decide(self._state, recall=self._parts.requests.asked(ROLLBACK)))
        except Retry as error:
            if error.code != "superseded":
                raise
            return not self._closing
        changed = self._state is not before
        for error in held_up:
            if error is not None and not changed:
                raise error
        return changed

    def _recover(self) -> Retry | None:
        """A start is a step of the table; then bring up what is active, without the server. Raises Retry while that may just take its time;
        returns it when the device has to go on without."""
        if not self._recovered:
            if phases.knows(self._state.phase, Step.RESTARTED):
                self._take(Outcome(Step.RESTARTED))
            self._recovered = True
        active = self._state.active
        if self._up or active is None or self._state.phase is Phase.REVERTING:
            return None
        try:
            acts.bring_up(self._parts, active)
        except Reject as error:
            return self._weigh(error)
        self._up = True
        return None

    def _weigh(self, error: Reject) -> Retry | None:
        self._failed_starts += 1
        failure = Retry(f"the active bundle does not start: {error}", code=error.code)
        if error.code not in DAMAGED and self._failed_starts < _MAX_FAILED_STARTS:
            raise failure from error
        log.error("the active bundle does not start: %s", error)
        return None if self._give_way(error) else failure

    def _give_way(self, error: Reject) -> bool:
        """The active bundle cannot be used: to the previous one, or, if the disk has lost it, to none until the server sends it again.
        Whether there was a way; a bundle that is whole is never forgotten."""
        state = self._state
        if error.code in DAMAGED and state.active is not None:
            self._tell_damage(state.active, error)
        if state.phase is Phase.PROBATION:
            self._reject(error)
        elif state.previous is not None and phases.knows(state.phase, Step.RECALLED):
            self._leave_active(error)
        elif error.code in DAMAGED:
            self._save(active=None, error=reports.text(error), given_up=-1)
        else:
            return False
        return True

    def _leave_active(self, error: Reject) -> None:
        state = self._state
        changes = {"quarantined": verdicts.quarantined(state, error, state.active), "error": reports.text(error), "candidate": None}
        self._take(Outcome(Step.RECALLED, changes if error.code == "recalled" else changes | {"given_up": -1}))

    def _settle(self) -> Retry | None:
        """An order that cannot be checked offline must not hold up a local roll-back."""
        try:
            self._parts.inbox.settle(self._state, self._accept)
        except Retry as error:
            return error
        return None

    def _accept(self, verified: Verified) -> None:
        """Raises OrderReplayed."""
        order, state = verified.order, disown(self._state) if verified.anew else self._state
        known, accepted = state.counter == order.counter, msgspec.structs.replace(accept(state, order), order_key=verified.key)
        running = accepted.active is not None and accepted.active.sha256 == order.sha256
        if order.sha256 in accepted.quarantined and not running and not known:
            refusal = Reject("this device has rejected the bundle before", code="quarantined")
            self._report("update.rejected", {"sha256": order.sha256, **reports.reasons(refusal)})
            accepted = msgspec.structs.replace(accepted, error=reports.text(refusal))
        log.info("order %d accepted: %s", order.counter, order.target_path)
        self._journal(accepted)

    def _inspect(self) -> None:
        """Whether the disk still holds what was installed; what answers now was read before and answers on meanwhile."""
        state, now_s = self._state, self._parts.clock.monotonic_s()
        if now_s - self._checked_s < self._parts.recheck_s or not phases.knows(state.phase, Step.RECALLED):
            return
        self._checked_s = now_s
        if state.previous is not None and (error := self._damage(state.previous)):
            self._tell_damage(state.previous, error)
            self._save(previous=None)
        if state.shadow is not None and (error := self._damage(state.shadow)):
            self._lose_shadow(state.shadow, error)
        if state.active is not None and (error := self._damage(state.active)):
            self._give_way(error)

    def _damage(self, installed: Installed) -> Reject | None:
        try:
            self._parts.slots.check(installed)
        except Reject as error:
            return error
        return None

    def _keep_company(self) -> None:
        """What is not to run beside the active bundle any more has ended when this returns, so that its slot may be written."""
        shadow = beside(self._state)
        damage = self._company.keep(shadow)
        if shadow is not None and damage is not None:
            self._lose_shadow(shadow, damage)

    def _lose_shadow(self, shadow: Installed, error: Reject) -> None:
        """The order that wants it has it fetched again."""
        self._tell_damage(shadow, error)
        self._save(shadow=None)

    def _tell_damage(self, installed: Installed, error: Reject) -> None:
        self._report("slot.damaged", reports.about(installed, Step.DAMAGED) | {"slot": installed.slot} | reports.reasons(error))

    def _grant_pardon(self) -> None:
        if self._parts.requests.asked(PARDON):
            self._journal(pardon(self._state))
            self._report("quarantine.cleared", {})
            self._parts.requests.granted(PARDON)

    def _follow(self, decision: Decision) -> None:
        if decision is Decision.START:
            self._start()
        elif decision is Decision.SUPERSEDE:
            self._supersede()
        elif decision is Decision.REVERT:
            self._recall()
        elif self._state.phase in self._acts:
            self._act()

    def _start(self) -> None:
        order = self._state.order
        if order is not None:
            candidate = Installed(slot=self._state.idle_slot, sha256=order.sha256, length=order.length)
            self._take(Outcome(Step.ORDERED, {"candidate": candidate, "lost": 0, "error": None}))

    def _supersede(self) -> None:
        state = self._state
        log.info("the update to %s is superseded", state.candidate.sha256[:12] if state.candidate else "nothing")
        on_probation = {"error": "superseded: another order came during the probation"}
        self._take(Outcome(Step.SUPERSEDED, on_probation if state.phase is Phase.PROBATION else {"candidate": None}))

    def _recall(self) -> None:
        state = self._state
        wish = Reject("a person asked to roll back", code="recalled")
        if state.previous is not None and phases.knows(state.phase, Step.RECALLED):
            self._leave_active(wish)
        elif state.phase is Phase.IDLE:
            self._save(error="recalled: there is no previous bundle to roll back to")
        else:
            self._reject(wish)
        self._parts.requests.granted(ROLLBACK)

    def _act(self) -> None:
        try:
            outcome = self._acts[self._state.phase]()
        except Reject as error:
            self._reject(error)
            return
        if outcome is not None:
            self._take(outcome)

    def _wanted(self) -> Callable[[], bool]:
        inbox, requests, arrivals = self._parts.inbox, self._parts.requests, self._parts.inbox.arrivals
        return lambda: inbox.arrivals == arrivals and not self._closing and not requests.asked(ROLLBACK)

    def _switch(self) -> Outcome:
        if not phases.affordable(Phase.SWITCHING, Step.SWITCHED, self._state.spent):
            return Outcome(Step.SWITCHED)  # ends the order before the bundle that it gives up answers anything
        candidate = self._state.candidate
        self._conduct_before = self._parts.host.conduct(candidate.sha256) if candidate else Conduct()
        outcome = acts.switch(self._parts, self._state)
        self._switched_s, self._up = self._parts.clock.monotonic_s(), True
        return outcome

    def _revert(self) -> Outcome:
        try:
            outcome = acts.revert(self._parts, self._state)
        except Reject as error:
            self._failed_starts += 1
            if self._failed_starts < _MAX_FAILED_STARTS:
                raise Retry(f"the previous bundle does not start: {error}", code=error.code) from error
            log.error("the previous bundle does not start, and is tried on: %s", error)
            self._up = False
            return acts.reverted(self._parts, self._state, self._state.previous, runs=False)
        self._up = True
        return outcome

    def _reject(self, error: Reject) -> None:
        """Raises the error when this phase can do nothing with it."""
        state, step = self._state, verdicts.step_for(self._state, error)
        if step is None:
            raise error
        log.warning("the bundle is %s while %s (%s): %s", step, state.phase, error.code, error)
        if step is Step.DAMAGED:
            self._parts.slots.staging(state).discard()
        shown = error.measurements if isinstance(error, Unproven) else ()
        measured = reports.measured(state.candidate, shown, None) if state.candidate else ()
        detail = {"phase": state.phase.value, **reports.reasons(error)}
        self._take(Outcome(step, verdicts.changes_for(state, step, error), detail, measured))

    def _take(self, outcome: Outcome) -> None:
        """Make a step, or, when the order cannot pay for it, the one that ends the update. Report, then journal: a step may be reported twice,
        never missed."""
        state = self._state
        if not phases.affordable(state.phase, outcome.step, state.spent):
            error = verdicts.exhausted(state)
            changes = verdicts.changes_for(state, Step.EXHAUSTED, error)
            outcome = Outcome(Step.EXHAUSTED, changes, {"phase": state.phase.value, **reports.reasons(error)})
        there = phases.move(state.phase, outcome.step)
        if outcome.step is not Step.RESTARTED:
            detail = reports.about(outcome.subject(state), outcome.step) | outcome.detail
            self._report(reports.kind(outcome.step, there.after), detail, measured=outcome.measured)
        self._save(phase=there.after, spent=state.spent + there.cost, **outcome.changes)

    def _report(self, kind: str, detail: reports.Detail, *, measured: Sequence[reports.Detail] = ()) -> None:
        log.info("%s %s", kind, detail)
        now = self._parts.clock.now()
        shown = [Event(at=now, kind=reports.MEASURED, detail=one) for one in measured]
        self._parts.store.append([Event(at=now, kind=kind, detail=detail), *shown])

    def _save(self, **changes: Any) -> None:
        self._journal(msgspec.structs.replace(self._state, **changes))

    def _journal(self, state: State) -> None:
        self._parts.journal.write(state)
        self._state = state
