"""What a check has found, as values, and what they come to."""

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Literal

Severity = Literal["error", "warning", "note"]
Verdict = Literal["passed", "warned", "failed"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")
"""The worst first."""
MAX_EXAMPLES = 10
_MOST_APART = 4


@dataclass(frozen=True)
class Finding:
    """`error`: a score on this data would not be true. `warning`: it may not be, or a device will suffer. `note`: worth knowing. `field` is the column or
    the class, `share` (0..1) that of the rows concerned, and `examples` are the ids of some."""

    code: str
    severity: Severity
    message: str
    field: str | None = None
    share: float | None = None
    examples: tuple[str, ...] = ()


def accept(findings: Sequence[Finding], codes: Collection[str]) -> tuple[Finding, ...]:
    """The worst first; those with a code that the task knows and lives with are notes."""
    known = [replace(f, severity="note") if f.code in codes else f for f in findings]
    return tuple(sorted(known, key=lambda finding: SEVERITIES.index(finding.severity)))


def judge(findings: Sequence[Finding], strict: bool = False) -> Verdict:
    """Failed by any error, and if `strict` by any warning."""
    severities = {finding.severity for finding in findings}
    if "error" in severities or (strict and "warning" in severities):
        return "failed"
    return "warned" if "warning" in severities else "passed"


def by_share(share: float, error: float, warning: float) -> Severity:
    """The severity of something that is worse the more rows it concerns."""
    return "error" if share >= error else "warning" if share >= warning else "note"


def name_some(ids: Sequence[str]) -> tuple[str, ...]:
    return tuple(ids[:MAX_EXAMPLES])


def gather(findings: Sequence[Finding]) -> list[Finding]:
    """Many of one code and severity as one, whose examples are their fields: of a thousand columns nobody reads a thousand lines."""
    alike: dict[tuple[str, str], list[Finding]] = defaultdict(list)
    for finding in findings:
        alike[finding.code, finding.severity].append(finding)
    told: list[Finding] = []
    for group in alike.values():
        if len(group) <= _MOST_APART:
            told += group
            continue
        fields = [finding.field for finding in group if finding.field]
        told.append(replace(group[0], message=f"{group[0].message}; so {len(group) - 1} more", field=None, examples=name_some(fields)))
    return told
