"""Messages of the inbox as batches: only what stands outside of them is read."""

from collections import Counter
from collections.abc import Iterable

import msgspec

from fleet_contract import messages, names
from fleet_contract.errors import BadName, ContractError
from fleet_contract.messages import Batch
from fleet_server.domain.coverage import Run
from fleet_server.domain.epochs import StreamKey
from fleet_server.inbox.segment import Arrival


class Piece(msgspec.Struct, frozen=True):
    """A batch as it came. `stream` is what its numbers are unique in."""

    device: str
    received_at_us: int
    batch: Batch
    stream: StreamKey

    @property
    def run(self) -> Run:
        return Run(self.batch.first, self.batch.last, self.batch.stride)


def pieces(arrivals: Iterable[Arrival]) -> tuple[list[Piece], Counter[str]]:
    """The batches among them, and how many messages were something else, by reason: those hold no number by which to account for them."""
    found: list[Piece] = []
    refused: Counter[str] = Counter()
    epochs: set[str] = set()
    for arrival in arrivals:
        try:
            batch = messages.decode_from_device(arrival.payload)
        except ContractError as error:
            refused[error.code] += 1
            continue
        if not isinstance(batch, Batch):
            refused["not-a-batch"] += 1
        elif batch.epoch in epochs or _is_name(batch.epoch):
            epochs.add(batch.epoch)
            found.append(Piece(arrival.device, arrival.received_at_us, batch, (arrival.device, batch.epoch, batch.lane.value)))
        else:
            refused["bad-epoch"] += 1
    return found, refused


def _is_name(epoch: str) -> bool:
    try:
        names.name(epoch, "epoch")
    except BadName:
        return False
    return True
