"""How a candidate's answers differ from those that were given. Pure."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from fleet_contract.answers import Answers

_TOLD_LABELS = 20


@dataclass(frozen=True)
class Comparison:
    """Of `inputs` rows that both answered, `agreed` got the same label, and their values differ by `difference` in sum, `largest` at most.
    `missed` counts rows that the candidate did not answer, by reason. `said` are the candidate's labels. Latencies are sums, of requests."""

    inputs: int = 0
    agreed: int = 0
    difference: float = 0.0
    largest: float = 0.0
    requests: int = 0
    latency_us: int = 0
    candidate_latency_us: int = 0
    said: Mapping[str, int] = field(default_factory=dict)
    missed: Mapping[str, int] = field(default_factory=dict)

    @property
    def seen(self) -> int:
        """Rows, answered or not."""
        return self.inputs + sum(self.missed.values())

    def plus(self, other: "Comparison") -> "Comparison":
        return Comparison(
            inputs=self.inputs + other.inputs,
            agreed=self.agreed + other.agreed,
            difference=self.difference + other.difference,
            largest=max(self.largest, other.largest),
            requests=self.requests + other.requests,
            latency_us=self.latency_us + other.latency_us,
            candidate_latency_us=self.candidate_latency_us + other.candidate_latency_us,
            said=Counter(self.said) + Counter(other.said),
            missed=Counter(self.missed) + Counter(other.missed),
        )

    def detail(self) -> dict[str, int | float]:
        """For an event: means instead of sums, the commonest labels as `said.LABEL`."""
        rows, requests = max(self.inputs, 1), max(self.requests, 1)
        return {
            "inputs": self.inputs,
            "agreed": self.agreed,
            "mean_difference": round(self.difference / rows, 6),
            "max_difference": round(self.largest, 6),
            "latency_us": self.latency_us // requests,
            "candidate_latency_us": self.candidate_latency_us // requests,
            **{f"said.{label}": count for label, count in Counter(self.said).most_common(_TOLD_LABELS)},
            **{f"missed.{reason}": count for reason, count in sorted(self.missed.items())},
        }


def compare(given: Answers, latency_us: int, candidate: Answers, candidate_latency_us: int) -> Comparison:
    """Of one request; both have as many rows."""
    differences = [abs(ours - theirs) for ours, theirs in zip(given.values, candidate.values, strict=True)]
    return Comparison(
        inputs=given.rows,
        agreed=sum(ours == theirs for ours, theirs in zip(given.labels, candidate.labels, strict=True)),
        difference=sum(differences),
        largest=max(differences, default=0.0),
        requests=1,
        latency_us=latency_us,
        candidate_latency_us=candidate_latency_us,
        said=Counter(label for label in candidate.labels if label is not None),
    )


def missed(reason: str, rows: int) -> Comparison:
    return Comparison(missed={reason: rows})
