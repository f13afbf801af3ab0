"""Brings the device to the state that its order names, one journalled step at a time."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec

from edge_agent.errors import Reject, Retry
from edge_agent.ports import Clock, FileFetcher, Host, Store, Target
from edge_agent.storage.journal import Journal
from edge_agent.trust.client import Trust
from edge_agent.update import phases, reports
from edge_agent.update.fetch import fetch
from edge_agent.update.inbox import Inbox
from edge_agent.update.phases import Phase, Step
from edge_agent.update.planner import Decision, accept, decide
from edge_agent.update.probation import Conduct, Terms, Verdict, judge
from edge_agent.update.slots import Slots
from edge_agent.update.state import Installed, State, quarantine
from fleet_contract import bundle
from fleet_contract.messages import Event
from fleet_contract.order import Order

log = logging.getLogger(__name__)

_MAX_STARTS = 5
"""A phase that was cut off so many times takes the device down with it: the bundle is rejected."""
_MAX_FAILED_BOOTS = 3
"""What has passed its probation once gets more than one chance on a machine that is busy starting."""
_NOT_THE_BUNDLES_FAULT = frozenset({"bad-digest", "bad-target", "not-found", "bad-blocks", "bad-request"})


@dataclass(frozen=True)
class Parts:
    """What an update works with. `observe` tells the conduct of the bundle that answers; `recall` whether a person asked to go back."""

    profile: str
    journal: Journal[State]
    slots: Slots
    inbox: Inbox
    trust: Trust
    files: FileFetcher
    host: Host
    store: Store
    clock: Clock
    observe: Callable[[], Conduct]
    recall: Callable[[], bool]
    recalled: Callable[[], None]
    terms: Terms


class Executor:
    """`turn` is called by one thread; `state` may be read by any."""

    def __init__(self, parts: Parts, state: State) -> None:
        self._parts = parts
        self._state = state
        self._booted = self._counted = False
        self._failed_boots = 0
        self._probation_since_s = parts.clock.monotonic_s()
        self._acts: dict[Phase, Callable[[], None]] = {
            Phase.FETCHING: self._fetch,
            Phase.VERIFYING: self._verify,
            Phase.PROVING: self._prove,
            Phase.SWITCHING: self._switch,
            Phase.PROBATION: self._watch,
            Phase.REVERTING: self._revert,
        }

    @property
    def state(self) -> State:
        return self._state

    def turn(self) -> bool:
        """Do the next step; whether there may be another at once. Raises Retry: nothing has changed, the same step comes again."""
        if not self._booted:
            self._boot()
        before = self._state
        not_yet = self._settle()
        self._follow(decide(self._state, recall=self._parts.recall()))
        changed = self._state is not before
        if not_yet and not changed:
            raise not_yet
        return changed

    def _settle(self) -> Retry | None:
        """An order that cannot be checked offline must not hold up a local roll-back."""
        try:
            self._parts.inbox.settle(self._state, self._accept)
        except Retry as error:
            return error
        return None

    def _follow(self, decision: Decision) -> None:
        if decision is Decision.START:
            self._start()
        elif decision is Decision.SUPERSEDE:
            self._supersede()
        elif decision is Decision.REVERT:
            self._recall()
        elif self._state.phase in self._acts:
            self._act(self._state.phase)

    def _boot(self) -> None:
        """Bring up what was active, without the server. Raises Retry."""
        if not self._counted:
            self._count_start()
        if self._state.phase is not Phase.REVERTING:
            self._activate_again()
        self._booted = True

    def _count_start(self) -> None:
        state = self._state
        if (state.phase, Step.REJECTED) in phases.TABLE and state.phase is not Phase.FETCHING:
            self._save(starts=state.starts + 1)
            if self._state.starts > _MAX_STARTS:
                self._reject(Reject(f"the device restarted {_MAX_STARTS} times while {state.phase}", code="too-many-starts"))
        self._counted = True

    def _activate_again(self) -> None:
        active = self._state.active
        try:
            if active is not None:
                self._parts.host.activate(self._parts.slots.open(active))
        except Reject as error:
            self._failed_boots += 1
            if error.code != "bad-digest" and self._failed_boots < _MAX_FAILED_BOOTS:
                raise Retry(f"the active bundle does not start: {error}", code=error.code) from error
            log.error("the active bundle does not start: %s", error)
            self._give_way(error)

    def _give_way(self, error: Reject) -> None:
        """The active bundle cannot be brought up: go to the previous one, or to none until the server sends it again."""
        state = self._state
        if state.phase is Phase.PROBATION:
            self._reject(error)
        elif state.phase is Phase.IDLE:
            self._step(Step.RECALLED, quarantined=self._quarantined(error, state.active), error=reports.text(error), given_up=-1)
        else:
            self._save(active=None, error=reports.text(error), given_up=-1)

    def _accept(self, order: Order) -> None:
        """Raises OrderReplayed."""
        known, accepted = self._state.counter == order.counter, accept(self._state, order)
        running = accepted.active is not None and accepted.active.sha256 == order.sha256
        if order.sha256 in accepted.quarantined and not running and not known:
            refusal = Reject("this device has rejected the bundle before", code="quarantined")
            self._report("update.rejected", {"sha256": order.sha256, **reports.reasons(refusal)})
            accepted = msgspec.structs.replace(accepted, error=reports.text(refusal))
        log.info("order %d accepted: %s", order.counter, order.target_path)
        self._journal(accepted)

    def _start(self) -> None:
        order = self._state.order
        if order is not None:
            candidate = Installed(slot=self._state.idle_slot, sha256=order.sha256, length=order.length)
            self._step(Step.ORDERED, candidate=candidate, error=None)

    def _supersede(self) -> None:
        state = self._state
        log.info("the update to %s is superseded", state.candidate.sha256[:12] if state.candidate else "nothing")
        if state.phase is Phase.PROBATION and self._parts.recall():
            self._reject(Reject("a person asked to roll back", code="recalled"))
            self._parts.recalled()
        elif state.phase is Phase.PROBATION:
            self._step(Step.SUPERSEDED, error="superseded: another order came during the probation")
        else:
            self._step(Step.SUPERSEDED, candidate=None)

    def _recall(self) -> None:
        state = self._state
        wish = Reject("a person asked to roll back", code="recalled")
        if state.previous is None:
            self._save(error="recalled: there is no previous bundle to roll back to")
        else:
            self._step(Step.RECALLED, quarantined=self._quarantined(wish, state.active), error=reports.text(wish))
        self._parts.recalled()

    def _act(self, phase: Phase) -> None:
        try:
            self._acts[phase]()
        except Reject as error:
            if (phase, Step.REJECTED) not in phases.TABLE:
                raise
            self._reject(error)

    def _fetch(self) -> None:
        parts, order, candidate = self._parts, self._state.order, self._candidate()
        if order is None or order.sha256 != candidate.sha256:
            raise Reject("the order is gone", code="bad-target")
        target = parts.trust.target(order.target_path)
        _check_target(target, order.sha256, order.length)
        done = fetch(target, parts.slots.part(candidate.slot), parts.slots.sources(), parts.files)
        log.info("bundle %s: %d bytes fetched, %d were here", candidate.sha256[:12], done.fetched_bytes, done.reused_bytes)
        # from here on the idle slot no longer holds what a rollback went to
        self._step(Step.FETCHED, previous=None, detail={"bytes": done.fetched_bytes, "reused_bytes": done.reused_bytes})

    def _verify(self) -> None:
        parts, candidate = self._parts, self._candidate()
        parts.slots.seal(candidate.slot)
        try:
            manifest = parts.slots.open(candidate).manifest
        except Reject as error:
            if error.code != "bad-digest":
                raise
            parts.slots.discard(candidate.slot)
            self._step(Step.DAMAGED, error=reports.text(error))
            return
        self._check_manifest(manifest)
        self._step(Step.VERIFIED, candidate=msgspec.structs.replace(candidate, version=manifest.version))

    def _check_manifest(self, manifest: bundle.Manifest) -> None:
        order = self._state.order
        if not {self._parts.profile, "any"} & {*manifest.profiles}:
            raise Reject(f"the bundle is for {', '.join(manifest.profiles)}, this is {self._parts.profile}", code="wrong-profile")
        if order is not None and bundle.target_path(manifest.task, manifest.version) != order.target_path:
            raise Reject(f"{order.target_path} holds {manifest.task} {manifest.version}", code="wrong-name")

    def _prove(self) -> None:
        candidate = self._candidate()
        proof = self._parts.host.prove(self._parts.slots.open(candidate))
        proven = msgspec.structs.replace(candidate, variant=proof.variant, backend=proof.backend, latency_p50_us=proof.latency_p50_us)
        self._step(Step.PROVEN, candidate=proven)

    def _switch(self) -> None:
        candidate = self._candidate()
        self._parts.host.activate(self._parts.slots.open(candidate))
        self._probation_since_s = self._parts.clock.monotonic_s()
        self._step(Step.SWITCHED, active=candidate, previous=self._state.active)

    def _watch(self) -> None:
        candidate = self._candidate()
        elapsed_s = self._parts.clock.monotonic_s() - self._probation_since_s
        verdict = judge(self._parts.observe(), candidate.sha256, elapsed_s, self._parts.terms)
        if verdict is Verdict.FAILED:
            raise Reject("its worker crashed during the probation", code="probation")
        if verdict is Verdict.PASSED:
            self._step(Step.PASSED, candidate=None, error=None)

    def _revert(self) -> None:
        state = self._state
        back = state.previous
        try:
            if back is not None:
                self._parts.host.activate(self._parts.slots.open(back))
        except Reject as error:
            log.error("the previous bundle does not start either: %s", error)
            back = None
        if back is None:
            self._parts.host.deactivate()
        self._step(Step.REVERTED, detail=reports.reverted(state.error, back), active=back, previous=None, candidate=None)

    def _reject(self, error: Reject) -> None:
        state = self._state
        log.warning("the bundle is rejected while %s (%s): %s", state.phase, error.code, error)
        changes: dict[str, Any] = {"error": reports.text(error), "quarantined": self._quarantined(error, state.candidate)}
        if state.phase is not Phase.PROBATION:
            changes |= {"given_up": state.counter, "candidate": None}
        self._step(Step.REJECTED, detail=reports.reasons(error), **changes)

    def _quarantined(self, error: Reject, installed: Installed | None) -> tuple[str, ...]:
        if installed is None or error.code in _NOT_THE_BUNDLES_FAULT:
            return self._state.quarantined
        return quarantine(self._state, installed.sha256)

    def _candidate(self) -> Installed:
        if self._state.candidate is None:
            raise Reject(f"the journal names no bundle to go on with while {self._state.phase}", code="bad-target")
        return self._state.candidate

    def _step(self, step: Step, *, detail: reports.Detail | None = None, **changes: Any) -> None:
        """Report, then journal: a step may be reported twice, never missed."""
        state = self._state
        phase = phases.after(state.phase, step)
        subject = state.active if step in (Step.REVERTED, Step.RECALLED) else changes.get("candidate") or state.candidate
        self._report(reports.kind(step, phase), reports.about(subject, step) | (detail or {}))
        self._save(phase=phase, starts=0, **changes)

    def _report(self, kind: str, detail: reports.Detail) -> None:
        log.info("%s %s", kind, detail)
        self._parts.store.append([Event(at=self._parts.clock.now(), kind=kind, detail=detail)])

    def _save(self, **changes: Any) -> None:
        self._journal(msgspec.structs.replace(self._state, **changes))

    def _journal(self, state: State) -> None:
        self._parts.journal.write(state)
        self._state = state


def _check_target(target: Target, sha256: str, length: int) -> None:
    if (target.sha256, target.length) != (sha256, length):
        raise Reject(f"the order and the signed metadata disagree about {target.path}", code="bad-target")
