"""Whether a bundle that has just been switched to may stay: pure."""

from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    WAIT = "wait"
    PASSED = "passed"
    FAILED = "failed"


@dataclass(frozen=True)
class Terms:
    """Passed after `inputs` answers, or after `time_s` without a crash when no input comes. More than `crashes` crashes fail it."""

    inputs: int = 16
    time_s: float = 10.0
    crashes: int = 0


@dataclass(frozen=True)
class Conduct:
    """What the bundle `sha256` has done since it became the one that answers."""

    sha256: str | None = None
    answered: int = 0
    crashes: int = 0


def judge(conduct: Conduct, sha256: str, elapsed_s: float, terms: Terms) -> Verdict:
    mine = conduct.sha256 == sha256
    if mine and conduct.crashes > terms.crashes:
        return Verdict.FAILED
    if (mine and conduct.answered >= terms.inputs) or elapsed_s >= terms.time_s:
        return Verdict.PASSED
    return Verdict.WAIT
