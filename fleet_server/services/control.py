"""The control loop. Level-triggered: each tick looks at what is, and does what is missing; it may be lost, repeated or killed anywhere."""

from dataclasses import dataclass
from datetime import datetime

from fleet_server.fleet import Fleet
from fleet_server.services import deletion, findings, job_steps, ledger, orders, quarantine, rollout_steps, windows


@dataclass(frozen=True)
class Outcome:
    """What one tick did; all zero when there was nothing to do."""

    findings_opened: int
    findings_moved: int
    jobs_moved: int
    rollouts_moved: int
    orders: tuple[str, ...]
    alerts_moved: int = 0
    deletions_moved: int = 0

    @property
    def quiet(self) -> bool:
        return not (
            self.findings_opened
            or self.findings_moved
            or self.jobs_moved
            or self.rollouts_moved
            or self.orders
            or self.alerts_moved
            or self.deletions_moved
        )


class Control:
    """One at a time: two loops on one database would publish an order twice, which is harmless, and start a job twice, which is not."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet

    def tick(self, now: datetime) -> Outcome:
        """Judge new windows, move findings, jobs and rollouts on, and issue the orders that follow; hold the ledger against what is stored; forget who
        was deleted."""
        engine = self._fleet.engine
        opened = windows.judge_new(engine, now)
        moved = findings.advance(engine, now)
        jobs = job_steps.advance(self._fleet, now)
        rollouts = rollout_steps.advance(engine, now)
        issued = tuple(orders.issue(self._fleet, now))
        judged = ledger.sweep(engine, now)
        alerts = judged.opened + judged.closed + quarantine.end_breaks(engine, now)
        return Outcome(opened, moved, jobs, rollouts, issued, alerts, deletion.clear(self._fleet, now))
