"""Can this record be stored? Pure: what a device sends is checked here, so that nothing it sends can break the transaction of others."""

import math
import re
from datetime import datetime

from fleet_contract import limits
from fleet_contract.errors import ContractError
from fleet_contract.messages import LANE_OF, Event, Lane, Record, Result, Sample, SketchWindow, decode_record

MEDIA_TYPES = frozenset({"image/jpeg", "image/png", "application/json"})
MAX_COUNT = 2**53
"""Above this, numbers are neither exact in JSON nor safe in every database."""
MAX_WORD_CHARS = 1_000
MAX_WORD_BYTES = 2_000
"""In UTF-8: PostgreSQL refuses a row whose part in an index is longer than 2704 bytes, and with it the transaction of all."""

_SHA256 = re.compile(r"[0-9a-f]{64}")
YEARS = range(1970, 9000)


class Malformed(ValueError):
    """`reason` is a stable word that is counted."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def read(wire: bytes, lane: Lane) -> Record:
    """Decode and check one record of a lane. Raises Malformed."""
    try:
        record = decode_record(wire)
    except ContractError as error:
        raise Malformed(error.code) from error
    if LANE_OF[type(record)] is not lane:
        raise Malformed("wrong-lane")
    return check(record)


def check(record: Record) -> Record:
    """Raises Malformed."""
    _CHECKS[type(record)](record)
    return record


def is_count(value: int) -> bool:
    return 0 <= value <= MAX_COUNT


def is_word(text: str) -> bool:
    """Text that every database takes (PostgreSQL has no NUL in text) and can index, of a sane length."""
    return "\0" not in text and len(text) <= MAX_WORD_CHARS and (text.isascii() or len(text.encode()) <= MAX_WORD_BYTES)


def is_digest(text: str) -> bool:
    """A SHA-256 in lower-case hex."""
    return _SHA256.fullmatch(text) is not None


def _event(event: Event) -> None:
    _times(event.at)
    _words(event.kind, *event.detail, *(value for value in event.detail.values() if isinstance(value, str)))
    for value in event.detail.values():
        if isinstance(value, float) and not math.isfinite(value):
            raise Malformed("not-finite")
        if isinstance(value, int) and abs(value) > MAX_COUNT:
            raise Malformed("out-of-range")
    if sum(len(key) + len(str(value)) for key, value in event.detail.items()) > limits.MAX_EVENT_DETAIL_CHARS:
        raise Malformed("too-large")


def _window(window: SketchWindow) -> None:
    _times(window.start, window.end)
    _bundle(window.bundle)
    _counts(window.first_input, window.inputs, window.sketch.rows)


def _result(result: Result) -> None:
    _times(result.at)
    _bundle(result.bundle)
    _words(result.input_id, result.label or "")
    _counts(result.latency_us)
    if not math.isfinite(result.value):
        raise Malformed("not-finite")


def _sample(sample: Sample) -> None:
    _times(sample.at)
    _bundle(sample.bundle)
    _words(sample.input_id, sample.label or "", sample.campaign)
    if not math.isfinite(sample.value):
        raise Malformed("not-finite")
    if sample.media_type not in MEDIA_TYPES:
        raise Malformed("media-type")
    if not 0 < len(sample.data) <= limits.MAX_SAMPLE_BYTES:
        raise Malformed("too-large")


def _times(*times: datetime) -> None:
    if any(at.tzinfo is None for at in times):
        raise Malformed("no-time-zone")
    if any(at.year not in YEARS for at in times):
        raise Malformed("out-of-range")


def _bundle(sha256: str) -> None:
    if not is_digest(sha256):
        raise Malformed("bad-bundle-digest")


def _words(*texts: str) -> None:
    if not all(is_word(text) for text in texts):
        raise Malformed("bad-text")


def _counts(*values: int) -> None:
    if not all(is_count(value) for value in values):
        raise Malformed("out-of-range")


_CHECKS = {Event: _event, SketchWindow: _window, Result: _result, Sample: _sample}
