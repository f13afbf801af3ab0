"""What can be wrong with a device, by name. Pure."""

from enum import StrEnum


class Kind(StrEnum):
    LEDGER_MISSING = "ledger-missing"
    """Records that the device made are neither stored, queued nor dropped."""
    LEDGER_SURPLUS = "ledger-surplus"
    """More is stored than it made: its outbox is an old copy, or another's; or its counts do not add up among themselves."""
    TWIN_RECORDS = "twin-records"
    """What it sends cannot come from one device."""
    TOO_MANY_EPOCHS = "too-many-epochs"
    CLOCK_OFF = "clock-off"
    FLOOD = "flood"
