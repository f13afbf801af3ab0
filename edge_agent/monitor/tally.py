"""What the pipeline has counted since the store's epoch began. Kept as a mark, so it is as durable as the records it goes with."""

import msgspec

from edge_agent.errors import Fatal

MARK = "pipeline"


class Tally(msgspec.Struct, frozen=True):
    """`inputs` are all that were consumed, refused ones included; `unreported` are the refusals that no event has told yet."""

    inputs: int = 0
    refused: dict[str, int] = {}
    unreported: dict[str, int] = {}

    def plus(self, inputs: int, reasons: list[str]) -> "Tally":
        refused, unreported = {**self.refused}, {**self.unreported}
        for reason in reasons:
            refused[reason] = refused.get(reason, 0) + 1
            unreported[reason] = unreported.get(reason, 0) + 1
        return Tally(self.inputs + inputs, refused, unreported)

    def reported(self) -> "Tally":
        return Tally(self.inputs, self.refused)


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
