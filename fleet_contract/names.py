"""The charsets of identifiers, and the SPIFFE form of a device's identity."""

import re

from fleet_contract import limits
from fleet_contract.errors import BadName

_ID = re.compile(rf"[a-z0-9-]{{1,{limits.MAX_DEVICE_ID_CHARS}}}")
_NAME = re.compile(rf"[a-z0-9][a-z0-9._-]{{0,{limits.MAX_NAME_CHARS - 1}}}")
_SEGMENT = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*")


def device_id(value: str) -> str:
    """Return `value` if it is a legal device or fleet id. Raises BadName."""
    if not _ID.fullmatch(value):
        raise BadName(
            f"device id {value!r} must be 1 to {limits.MAX_DEVICE_ID_CHARS} characters of a-z, 0-9 and '-'",
            field="device_id",
            limit=_ID.pattern,
        )
    return value


def name(value: str, field: str = "name") -> str:
    """Return `value` if it is a legal bundle, task, version or profile name. Raises BadName naming `field`."""
    if not _NAME.fullmatch(value) or ".." in value:
        raise BadName(
            f"{field} {value!r} must be 1 to {limits.MAX_NAME_CHARS} characters of a-z, 0-9, '.', '_' and '-', "
            "beginning with a letter or digit, without '..'",
            field=field,
            limit=_NAME.pattern,
        )
    return value


def path(value: str, field: str = "path") -> str:
    """Return `value` if it is a relative, slash-separated repository path that cannot climb. Raises BadName."""
    segments = value.split("/")
    if len(value) > limits.MAX_PATH_CHARS or not all(_SEGMENT.fullmatch(s) and ".." not in s for s in segments):
        raise BadName(
            f"{field} {value!r} must be at most {limits.MAX_PATH_CHARS} characters of slash-separated [A-Za-z0-9._-] names",
            field=field,
            limit=limits.MAX_PATH_CHARS,
        )
    return value


def spiffe_id(fleet: str, device: str) -> str:
    """The URI that a device certificate carries beside its CN (SPIFFE ID, one workload a device)."""
    return f"spiffe://{device_id(fleet)}/device/{device_id(device)}"
