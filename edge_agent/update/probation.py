"""Whether a bundle that has just been switched to may stay: pure."""

import math
from dataclasses import asdict, dataclass
from enum import StrEnum

from edge_agent.ports import Conduct
from edge_agent.update.state import Reliability


class Verdict(StrEnum):
    WAIT = "wait"
    PASSED = "passed"
    """Once it has given its known answers again."""
    FAILED = "failed"


@dataclass(frozen=True)
class Terms:
    """Passed after `inputs` answers, or after `time_s` when there are fewer to give; failed when it has not passed after `longest_s`.

    `losses` workers may be lost: a machine that is short of memory kills one now and then. The same input is asked again at once, so what a bundle
    does by itself it does again. A bundle is slow when more than `slow_share` of its answers, and at least two, took longer than its manifest allows.
    """

    inputs: int = 16
    time_s: float = 10.0
    longest_s: float = 600.0
    losses: int = 1
    slow_share: float = 0.5


@dataclass(frozen=True)
class Finding:
    """`code` and `reason` say what a failed bundle did."""

    verdict: Verdict
    code: str = ""
    reason: str = ""


_MIN_SLOW_REQUESTS = 2
_SIGMAS = 3.0


def judge(seen: Conduct, rival: Reliability, elapsed_s: float, terms: Terms) -> Finding:
    """`seen` is the new bundle's conduct since it answers, `rival` the one's before it. An error is held against the new bundle unless its rate is
    what chance would make of the rival's."""
    fault = _fault(seen, rival, terms)
    if fault is not None:
        return Finding(Verdict.FAILED, *fault)
    if seen.answered >= terms.inputs or elapsed_s >= terms.time_s:
        return Finding(Verdict.PASSED)
    return Finding(Verdict.WAIT)


def beyond(now: Conduct, since: Conduct) -> Conduct:
    """What has come to pass between two looks."""
    return Conduct(**{name: value - getattr(since, name) for name, value in asdict(now).items()})


def overdue(elapsed_s: float, terms: Terms) -> Finding:
    """Of a bundle that was never fit to be passed: it cannot be asked its known answers, for instance."""
    if elapsed_s < terms.longest_s:
        return Finding(Verdict.WAIT)
    return Finding(Verdict.FAILED, "probation-unproven", f"it could not show itself good within {terms.longest_s:g} s")


def tolerated(requests: int, rival: Reliability) -> int:
    """How many errors in so many requests the rival's rate explains: its expectation and three standard deviations of the binomial."""
    if rival.requests == 0:
        return 0
    rate = rival.errors / rival.requests
    return math.floor(requests * rate + _SIGMAS * math.sqrt(requests * rate * (1 - rate)))


def _fault(seen: Conduct, rival: Reliability, terms: Terms) -> tuple[str, str] | None:
    allowed = tolerated(seen.requests + seen.errors, rival)
    kinds = (
        ("crash", seen.crashes, max(allowed, terms.losses), "its worker crashed"),
        ("hang", seen.hangs, allowed, "its worker did not answer in time"),
        ("non-finite", seen.non_finite, allowed, "its answer was not finite"),
        ("wrong-answer", seen.wrong, allowed, "its answer was none"),
        ("memory", seen.over_memory, allowed, "it wanted more memory than its limit"),
        ("errors", seen.errors, max(allowed, terms.losses), "it answered less often than the bundle before it"),
    )
    for code, count, most, reason in kinds:
        if count > most:
            return f"probation-{code}", f"{reason}: {count} times in {seen.requests + seen.errors} requests"
    if seen.slow >= _MIN_SLOW_REQUESTS and seen.slow > terms.slow_share * seen.requests:
        return "probation-slow", f"{seen.slow} of {seen.requests} answers took longer than its manifest allows"
    return None
