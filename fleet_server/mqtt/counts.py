"""Counters of what came in over MQTT and what became of it; the metrics show them by these names."""

import logging
import threading
from collections import Counter
from collections.abc import Mapping
from enum import StrEnum

log = logging.getLogger(__name__)


class Count(StrEnum):
    MESSAGES = "messages"
    STATUSES = "statuses"
    WANTS = "wants"
    PROGRESS = "progress"
    BLOCKS = "blocks_sent"
    SHARED_BLOCKS = "blocks_shared"
    PASSES_LEFT = "passes_left"
    URLS = "urls_sent"
    REFUSALS = "wants_refused"
    FOREIGN_TOPIC = "foreign_topic"
    MALFORMED = "malformed"
    UNKNOWN_VERSION = "unknown_version"
    WRONG_KIND = "wrong_kind"
    QUEUE_FULL = "queue_full"
    UNACCEPTABLE_STATUS = "unacceptable_status"


class Counts:
    """Thread-safe. The first of each kind of trouble is logged; the rest are counted."""

    def __init__(self) -> None:
        self._counter: Counter[Count] = Counter(dict.fromkeys(Count, 0))
        self._lock = threading.Lock()

    def add(self, count: Count, number: int = 1) -> int:
        """Returns the new count."""
        with self._lock:
            self._counter[count] += number
            return self._counter[count]

    def trouble(self, count: Count, reason: object) -> None:
        if self.add(count) == 1:
            log.warning("%s: %s (further ones are only counted)", count.value, reason)

    def snapshot(self) -> Mapping[str, int]:
        with self._lock:
            return {count.value: number for count, number in self._counter.items()}
