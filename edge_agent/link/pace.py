"""How the uplink paces itself."""

from dataclasses import dataclass, field

from edge_agent.hours import QuietHours
from edge_agent.link.settings import ClockSettings, UplinkSettings


@dataclass(frozen=True)
class Pace:
    """At most `window` messages may be unacknowledged; what was acknowledged in time, and what not, says how many are. An acknowledgement may take
    `patience_s` at least and `longest_patience_s` at most before something is sent again. Records gather for `gather_s`, because messages are scarce
    and rows are not. While there is nothing to do, nothing is looked at for `idle_s`. With an untrusted clock all but events wait for `clock_wait_s`
    after the start. The rest as in UplinkSettings."""

    window: int = 32
    patience_s: float = 10.0
    longest_patience_s: float = 300.0
    gather_s: float = 0.2
    heartbeat_s: float = 5.0
    idle_s: float = 2.0
    rate_bytes_per_s: int | None = None
    history_share: float = 0.5
    quiet: QuietHours = field(default_factory=QuietHours)
    clock_wait_s: float = 0.0


def pace_of(told: UplinkSettings, clock: ClockSettings) -> Pace:
    return Pace(
        window=told.max_in_flight,
        patience_s=told.patience_s,
        heartbeat_s=told.heartbeat_s,
        rate_bytes_per_s=told.rate_bytes_per_s,
        history_share=told.history_share,
        quiet=told.quiet(),
        clock_wait_s=clock.wait_s,
    )
