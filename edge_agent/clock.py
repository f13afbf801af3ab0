"""The machine's clocks, behind ports.Clock, and what the kernel knows of them."""

import ctypes
import time
from datetime import UTC, datetime
from pathlib import Path

BUILT_AT = datetime(2026, 11, 21, tzinfo=UTC)
"""No device that runs this version lives earlier. Moved on with each release."""

_BOOT_ID = Path("proc/sys/kernel/random/boot_id")
_TIMEX_BYTES = 256
"""More than struct timex has on any architecture; zeros ask and set nothing (adjtimex(2))."""
_TIME_ERROR = 5


class SystemClock:
    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic_s(self) -> float:
        return time.monotonic()


def uptime_us() -> int:
    """Since the machine's start, suspended time included."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000


def boot_id(root: Path) -> str | None:
    """The kernel's name for this run of the machine; None where it has none."""
    try:
        return (root / _BOOT_ID).read_text().strip().replace("-", "") or None
    except OSError:
        return None


def is_synchronised() -> bool:
    """Whether something (NTP, PTP, GPS) disciplines the kernel's clock at present: what `timedatectl` calls synchronised."""
    try:
        state = ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(_TIMEX_BYTES))
    except (OSError, AttributeError):
        return False
    return 0 <= state < _TIME_ERROR
