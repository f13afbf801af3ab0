"""What each phase does, once it is journalled: the outcome as a value, for the executor to report and to journal. Raises Retry or Reject.

An act may be cut off anywhere and is then begun again, so each of them may be repeated.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec

from edge_agent.delivery.ports import Target, Wish
from edge_agent.errors import Reject, Retry
from edge_agent.ports import Choice, Conduct
from edge_agent.update import probation, reports
from edge_agent.update.parts import Parts
from edge_agent.update.phases import Step
from edge_agent.update.planner import asks_shadow
from edge_agent.update.probation import Verdict
from edge_agent.update.slots import DAMAGED
from edge_agent.update.state import Installed, Reliability, State
from fleet_contract import bundle

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Outcome:
    """The step that was made, what it changes in the journal, and what the server is told beside it: of the step, and of what was measured."""

    step: Step
    changes: dict[str, Any] = field(default_factory=dict)
    detail: reports.Detail = field(default_factory=dict)
    measured: tuple[reports.Detail, ...] = ()

    def subject(self, before: State) -> Installed | None:
        """The bundle that the step is about."""
        if self.step in (Step.REVERTED, Step.RECALLED):
            return before.active
        return self.changes.get("candidate") or self.changes.get("shadow") or before.candidate


def fetch(parts: Parts, state: State, wanted: Callable[[], bool]) -> Outcome:
    order, candidate = state.order, _candidate(state)
    if order is None or order.sha256 != candidate.sha256:
        raise Reject("the order is gone", code="bad-target")
    target = parts.trust.target(order.target_path)
    _check_target(target, order.sha256, order.length)
    wish = Wish(transport=order.transport or None, wanted=wanted)
    done = parts.delivery.bring(target, parts.slots.staging(state).part(), parts.slots.held(state), wish)
    log.info("bundle %s: %d bytes fetched (%s), %d were here", candidate.sha256[:12], done.fetched_bytes, done.way, done.reused_bytes)
    detail: reports.Detail = {"bytes": done.fetched_bytes, "reused_bytes": done.reused_bytes, "way": done.way}
    # from here on the idle slot no longer holds what a rollback went to, or a shadow
    return Outcome(Step.FETCHED, {"previous": None, "shadow": None}, detail)


def verify(parts: Parts, state: State) -> Outcome:
    candidate = _candidate(state)
    parts.slots.staging(state).seal()
    manifest = parts.slots.open(candidate).manifest
    if not {parts.profile, "any"} & {*manifest.profiles}:
        raise Reject(f"the bundle is for {', '.join(manifest.profiles)}, this is {parts.profile}", code="wrong-profile")
    if state.order is not None and bundle.target_path(manifest.task, manifest.version) != state.order.target_path:
        raise Reject(f"{state.order.target_path} holds {manifest.task} {manifest.version}", code="wrong-name")
    return Outcome(Step.VERIFIED, {"candidate": msgspec.structs.replace(candidate, version=manifest.version)})


def prove(parts: Parts, state: State) -> Outcome:
    candidate, as_shadow = _candidate(state), asks_shadow(state)
    prover = parts.guest if as_shadow else parts.host
    proof = prover.prove(parts.slots.open(candidate))
    best = proof.chosen
    proven = msgspec.structs.replace(candidate, variant=best.variant, backend=best.backend, latency_p50_us=best.latency_p50_us)
    measured = reports.measured(candidate, proof.measurements, best)
    walls: reports.Detail = {"walls": ",".join(proof.walls)}
    if as_shadow:
        return Outcome(Step.SHADOWED, {"candidate": None, "shadow": proven, "error": None}, walls, measured)
    return Outcome(Step.PROVEN, {"candidate": proven}, walls, measured)


def switch(parts: Parts, state: State) -> Outcome:
    candidate, before = _candidate(state), state.active
    bring_up(parts, candidate)
    seen = parts.host.conduct(before.sha256) if before else Conduct()
    rival = Reliability(seen.requests + seen.errors, seen.errors)
    return Outcome(Step.SWITCHED, {"active": candidate, "previous": before, "rival": rival})


def bring_up(parts: Parts, installed: Installed) -> None:
    """Raises Reject or Retry."""
    parts.host.activate(parts.slots.open(installed), _choice(installed))


def accompany(parts: Parts, shadow: Installed) -> None:
    """Raises Reject or Retry."""
    parts.guest.start(parts.slots.open(shadow), _choice(shadow))


def watch(parts: Parts, state: State, since: Conduct, elapsed_s: float) -> Outcome | None:
    """None: it is not decided yet. `since` is the candidate's conduct before it was switched to."""
    seen = probation.beyond(parts.host.conduct(_candidate(state).sha256), since)
    finding = probation.judge(seen, state.rival, elapsed_s, parts.terms)
    if finding.verdict is Verdict.PASSED:
        finding = _examined(parts, finding, elapsed_s)
    if finding.verdict is Verdict.FAILED:
        raise Reject(finding.reason, code=finding.code)
    return Outcome(Step.PASSED, {"candidate": None, "error": None}) if finding.verdict is Verdict.PASSED else None


def revert(parts: Parts, state: State) -> Outcome:
    """Raises Reject when the previous bundle is whole and does not start."""
    back = state.previous
    try:
        if back is not None:
            bring_up(parts, back)
    except Reject as error:
        if error.code not in DAMAGED:
            raise
        log.error("the previous bundle is gone too: %s", error)
        back = None
    return reverted(parts, state, back, runs=back is not None)


def reverted(parts: Parts, state: State, back: Installed | None, *, runs: bool) -> Outcome:
    if not runs:
        parts.host.deactivate()
    changes = {"active": back, "previous": None, "candidate": None}
    return Outcome(Step.REVERTED, changes, reports.reverted(state.error, back))


def _examined(parts: Parts, passed: probation.Finding, elapsed_s: float) -> probation.Finding:
    """A bundle that hangs or crashes now shows in its conduct the next time."""
    try:
        parts.host.examine()
    except Retry:
        finding = probation.overdue(elapsed_s, parts.terms)
        if finding.verdict is Verdict.WAIT:
            raise
        return finding
    return passed


def _choice(installed: Installed) -> Choice | None:
    return Choice(installed.variant, installed.backend) if installed.variant else None


def _candidate(state: State) -> Installed:
    if state.candidate is None:
        raise Reject(f"the journal names no bundle to go on with while {state.phase}", code="bad-target")
    return state.candidate


def _check_target(target: Target, sha256: str, length: int) -> None:
    if (target.sha256, target.length) != (sha256, length):
        raise Reject(f"the order and the signed metadata disagree about {target.path}", code="bad-target")
