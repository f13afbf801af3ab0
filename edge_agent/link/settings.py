"""What a device's owner says of the uplink and of the clock: tables of the device file."""

from typing import Annotated, Literal
from zoneinfo import ZoneInfo

import msgspec

from edge_agent.errors import Fatal
from edge_agent.hours import QuietHours, parse_window
from fleet_contract import limits
from fleet_contract.backoff import Backoff

_Wait = Annotated[float, msgspec.Meta(ge=0, le=limits.MAX_UPLINK_WAIT_S)]
_Some = Annotated[float, msgspec.Meta(ge=0.1, le=limits.MAX_UPLINK_WAIT_S)]


class UplinkSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`max_in_flight` messages may be unacknowledged at most; the window below adapts. Silence is never shorter than `patience_s`.
    `rate_bytes_per_s` None is no cap. `history_share` of the window and of the rate is what waited through an outage given. In `quiet_hours`
    (HH:MM-HH:MM in `zone`, an IANA name; the machine's own without one) only events and status go. After a lost connection the first attempt comes
    within `reconnect_spread_s`, later ones within twice as long each, `reconnect_longest_s` at most; that of a new start within `start_spread_s`."""

    heartbeat_s: _Some = 5.0
    max_in_flight: Annotated[int, msgspec.Meta(ge=1, le=limits.MAX_IN_FLIGHT_COUNT)] = 32
    patience_s: _Some = 10.0
    rate_bytes_per_s: Annotated[int, msgspec.Meta(ge=limits.MIN_UPLINK_RATE_BYTES_PER_S)] | None = None
    history_share: Annotated[float, msgspec.Meta(gt=0, le=1)] = 0.5
    quiet_hours: Annotated[list[str], msgspec.Meta(max_length=limits.MAX_QUIET_WINDOWS_COUNT)] = []
    zone: str | None = None
    reconnect_spread_s: _Wait = 1.0
    reconnect_longest_s: _Some = 60.0
    start_spread_s: _Wait = 0.0
    keepalive_s: Annotated[int, msgspec.Meta(ge=5, le=limits.MAX_KEEPALIVE_S)] = 20

    def __post_init__(self) -> None:
        try:
            self.quiet()
        except Fatal as error:
            raise ValueError(str(error)) from error

    def backoff(self) -> Backoff:
        return Backoff(first_s=self.reconnect_spread_s / 2, longest_s=max(self.reconnect_spread_s, self.reconnect_longest_s))

    def quiet(self) -> QuietHours:
        """Raises Fatal naming the setting."""
        windows = tuple(parse_window(text, "quiet_hours") for text in self.quiet_hours)
        try:
            return QuietHours(windows, ZoneInfo(self.zone) if self.zone is not None else None)
        except (LookupError, ValueError, OSError) as error:
            raise Fatal(f"zone {self.zone!r} is no time zone of this machine: {error}", code="setting") from error


class ClockSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`trust`: "kernel" when the kernel says that something disciplines the clock, "always" for a machine whose host does. Until it is trusted all but
    events wait for it, `wait_s` after the start at most."""

    trust: Literal["kernel", "always"] = "kernel"
    wait_s: _Wait = 0.0
