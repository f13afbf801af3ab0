"""Times as whole microseconds since 1970 UTC, and back; exact, as floating seconds are not."""

from datetime import UTC, datetime, timedelta

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_US = timedelta(microseconds=1)
_DAY_US = 86_400_000_000


def microseconds(at: datetime) -> int:
    since = at - EPOCH
    return since.days * _DAY_US + since.seconds * 1_000_000 + since.microseconds


def moment(at_us: int) -> datetime:
    """Raises OverflowError beyond what datetime can say."""
    return EPOCH + at_us * _US
