"""How fast bytes may go, either way: a token bucket. Pure."""

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Allowance:
    """A token bucket that holds one second's worth; the balance may be negative: then the debt is waited for."""

    rate_bytes_per_s: int
    at_s: float
    balance_bytes: float = 0.0

    def spend(self, count: int, now_s: float) -> "Allowance":
        earned = (now_s - self.at_s) * self.rate_bytes_per_s
        balance = min(self.rate_bytes_per_s, self.balance_bytes + earned) - count
        return replace(self, at_s=now_s, balance_bytes=balance)

    @property
    def wait_s(self) -> float:
        return max(0.0, -self.balance_bytes / self.rate_bytes_per_s)
