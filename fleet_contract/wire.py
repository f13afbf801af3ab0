"""What all messages are made of."""

from datetime import datetime
from typing import Annotated

import msgspec

from fleet_contract import limits

Moment = Annotated[datetime, msgspec.Meta(tz=True)]
"""Aware; a naive time on the wire is an error."""
Count = Annotated[int, msgspec.Meta(ge=0, le=limits.MAX_COUNT)]


class Struct(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Frozen and strict: an unknown field is an error."""
