"""Whom a caller follows: the `traceparent` field of W3C Trace Context. Pure."""

import re

from fleet_contract.messages import Follow

FIELD = "traceparent"
_FORM = re.compile(r"(?P<version>[0-9a-f]{2})-(?P<id>[0-9a-f]{32})-(?P<parent>[0-9a-f]{16})-(?P<flags>[0-9a-f]{2})(?P<more>-.*)?")
_FIRST, _INVALID = "00", "ff"
_SAMPLED = 1


def followed(field: str | None) -> Follow | None:
    """What the record of this request belongs to; None where the caller does not record its trace, and where the field is not as the specification
    says, which has it ignored then. Versions to come begin like the first (W3C Trace Context, 4.3)."""
    found = _FORM.fullmatch(field) if field is not None else None
    if found is None or found["version"] == _INVALID or (found["version"] == _FIRST and found["more"]):
        return None
    if not int(found["flags"], 16) & _SAMPLED or not int(found["id"], 16) or not int(found["parent"], 16):
        return None
    return Follow(id=found["id"], parent=found["parent"])
