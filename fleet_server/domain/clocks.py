"""How far a device's wall clock is off. Pure.

A status may come late: the broker keeps the last one for a server that was away. Such a delay is seen once; a clock that is off is seen each time.
"""

from fleet_contract.limits import MAX_CLOCK_SKEW_S


def is_off(before_s: float | None, now_s: float) -> bool:
    """From two measurements in a row, each the device's time less ours."""
    return before_s is not None and (min(before_s, now_s) > MAX_CLOCK_SKEW_S or max(before_s, now_s) < -MAX_CLOCK_SKEW_S)
