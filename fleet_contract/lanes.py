"""The lanes that records travel in."""

from enum import StrEnum


class Lane(StrEnum):
    """In order of priority: when the outbox is full the last lane gives way first."""

    EVENTS = "events"
    SKETCHES = "sketches"
    TELEMETRY = "telemetry"
    SAMPLES = "samples"
