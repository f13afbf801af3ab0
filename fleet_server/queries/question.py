"""What can be asked about inferences, and where in an answer a page ends. Pure."""

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

import msgspec

from fleet_contract import limits
from fleet_contract.instants import microseconds
from fleet_server.errors import BadRequest


class Key(StrEnum):
    """What inferences can be grouped by."""

    MINUTE = "minute"
    HOUR = "hour"
    DAY = "day"
    DEVICE = "device"
    BUNDLE = "bundle"
    TASK = "task"
    LABEL = "label"


STEP_S = {Key.MINUTE: 60, Key.HOUR: 3_600, Key.DAY: 86_400}


class Source(StrEnum):
    """`rows` is the lake, exact in everything; `minutes` are sums kept as records come, which answer at once and outlive the rows."""

    ROWS = "rows"
    MINUTES = "minutes"


@dataclass(frozen=True)
class Question:
    """Inferences of `since` <= at < `until`; None asks for everything, `bundles` for any of these. With `group_by` the answer has a row a group;
    `quantiles` are then those of values and latencies."""

    since: datetime | None = None
    until: datetime | None = None
    device: str | None = None
    bundles: tuple[str, ...] | None = None
    task: str | None = None
    label: str | None = None
    abstained: bool | None = None
    group_by: tuple[Key, ...] = ()
    quantiles: tuple[float, ...] = ()

    @property
    def step(self) -> Key | None:
        """The key that cuts time."""
        return next((key for key in self.group_by if key in STEP_S), None)

    def source(self) -> Source:
        """The cheapest that knows: minutes have neither labels nor quantiles, and cannot be cut."""
        whole = all(at is None or microseconds(at) % 60_000_000 == 0 for at in (self.since, self.until))
        rows = self.label is not None or self.abstained is not None or self.quantiles or Key.LABEL in self.group_by
        return Source.MINUTES if self.group_by and whole and not rows else Source.ROWS


@dataclass(frozen=True)
class Cursor:
    """Where a page ended: of rows (at in microseconds, device, epoch, sequence), of groups their keys, times in seconds since 1970."""

    values: tuple[Any, ...]

    def text(self) -> str:
        return base64.urlsafe_b64encode(msgspec.msgpack.encode(self.values)).decode().rstrip("=")


def check(question: Question) -> Question:
    """Raises BadRequest naming the parameter."""
    for field in ("since", "until"):
        at = getattr(question, field)
        if at is not None and at.tzinfo is None:
            raise BadRequest(f"{field} needs a time zone, for example {at.isoformat()}Z", field=field)
    if question.since and question.until and question.since >= question.until:
        raise BadRequest("until is not after since", field="until")
    if len(set(question.group_by)) < len(question.group_by) or sum(key in STEP_S for key in question.group_by) > 1:
        raise BadRequest("group_by takes each key once, and one of minute, hour and day", field="group_by")
    if len(question.quantiles) > limits.MAX_QUANTILES_COUNT or not all(0 <= share <= 1 for share in question.quantiles):
        raise BadRequest(
            f"at most {limits.MAX_QUANTILES_COUNT} quantiles, each from 0 to 1", field="quantiles", limit=limits.MAX_QUANTILES_COUNT
        )
    if question.quantiles and not question.group_by:
        raise BadRequest("quantiles are of groups: add group_by", field="quantiles")
    return question


def keys(text: str | None) -> tuple[Key, ...]:
    """`hour,device` read. Raises BadRequest."""
    try:
        return tuple(Key(word.strip()) for word in text.split(",")) if text else ()
    except ValueError as error:
        raise BadRequest(f"group_by {text!r}: the keys are {', '.join(Key)}", field="group_by") from error


def shares(text: str | None) -> tuple[float, ...]:
    """`0.5,0.99` read. Raises BadRequest."""
    try:
        return tuple(float(word) for word in text.split(",")) if text else ()
    except ValueError as error:
        raise BadRequest(f"quantiles {text!r}: numbers from 0 to 1, with commas between", field="quantiles") from error


def cursor(text: str | None, question: Question) -> Cursor | None:
    """Raises BadRequest for a text that no page of such a question gave."""
    if not text:
        return None
    kinds = _kinds(question)
    try:
        values = msgspec.msgpack.decode(
            base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True), type=list[int | str]
        )
    except (ValueError, binascii.Error) as error:
        raise _foreign(text) from error
    fits = len(values) == len(kinds) and all(type(value) is kind for value, kind in zip(values, kinds, strict=True))
    if not fits or any(isinstance(value, int) and abs(value) >= 2**63 for value in values):
        raise _foreign(text)
    return Cursor(tuple(values))


def _kinds(question: Question) -> Sequence[type]:
    return [int if key in STEP_S else str for key in question.group_by] or (int, str, str, int)


def _foreign(text: str) -> BadRequest:
    return BadRequest(f"cursor {text[:50]!r} was not given by this server for this question", field="after")
