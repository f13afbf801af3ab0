"""The machine's clock, behind ports.Clock."""

import time
from datetime import UTC, datetime

BUILT_AT = datetime(2026, 11, 21, tzinfo=UTC)
"""No device that runs this version lives earlier. Moved on with each release."""


class SystemClock:
    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic_s(self) -> float:
        return time.monotonic()
