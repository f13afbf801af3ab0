"""What the pipeline has counted since the store's epoch began. Kept as a mark, so it is as durable as the records it goes with."""

from collections.abc import Mapping

import msgspec

from edge_agent.errors import Fatal

MARK = "pipeline"


class Tally(msgspec.Struct, frozen=True):
    """`inputs` are all that were acquired, refused and lost ones included; `unreported` are the refusals that no event has told yet."""

    inputs: int = 0
    refused: dict[str, int] = {}
    unreported: dict[str, int] = {}

    def plus(self, inputs: int, refused: Mapping[str, int]) -> "Tally":
        if not refused:
            return Tally(self.inputs + inputs, self.refused, self.unreported)
        return Tally(self.inputs + inputs, _sum(self.refused, refused), _sum(self.unreported, refused))

    def reported(self) -> "Tally":
        return Tally(self.inputs, self.refused)


def _sum(counts: Mapping[str, int], more: Mapping[str, int]) -> dict[str, int]:
    return {**counts, **{reason: counts.get(reason, 0) + count for reason, count in more.items()}}


def to_mark(tally: Tally) -> str:
    return msgspec.json.encode(tally).decode()


def from_mark(mark: str | None) -> Tally:
    """Raises Fatal when the store holds something else under this mark."""
    if mark is None:
        return Tally()
    try:
        return msgspec.json.decode(mark, type=Tally)
    except (ValueError, RecursionError) as error:
        raise Fatal(f"the outbox's mark {MARK!r} is damaged: {error}", code="store") from error
