"""The real outbox, with clocks that are set; and what lies in one, as records."""

from collections.abc import Iterable
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from edge_agent.outbox.settings import OutboxSettings
from edge_agent.outbox.store import Outbox
from edge_agent.ports import Reading
from fleet_contract import batches, columns
from fleet_contract.messages import Batch, Record, decode_record


class Clocks:
    """Both stand still until they are moved."""

    def __init__(self) -> None:
        self.now = Reading(datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), 1_000_000, "boot-1", "trusted")

    def __call__(self) -> Reading:
        return self.now

    def go(self, seconds: float) -> None:
        self.now = replace(self.now, at=self.now.at + timedelta(seconds=seconds), mono_us=self.now.mono_us + int(seconds * 1e6))


def open_outbox(path: Path, clocks: Clocks | None = None, epoch: str = "epoch-1", **settings) -> Outbox:
    return Outbox(path, new_epoch=lambda: epoch, read=clocks or Clocks(), settings=OutboxSettings(**settings))


def records_in(found: Iterable[Batch]) -> list[Record]:
    """In the order of the batches."""
    return [record for batch in found for record in _open(batch)]


def records_of(path: Path) -> list[Record]:
    """What waits for the server in an outbox that nobody has open."""
    with closing(open_outbox(path)) as outbox:
        return records_in(outbox.batches(1_000))


def _open(batch: Batch) -> list[Record]:
    content = batches.unpack(batch)
    return (
        [*columns.to_results(content)] if isinstance(content, columns.ResultColumns) else [decode_record(wire) for wire in content.records]
    )
