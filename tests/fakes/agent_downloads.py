"""Downloads over one way at a time, with the far end in this process or, for HTTP, on a port of this machine."""

import hashlib
import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path

from edge_agent.delivery.downloads import Downloads, Ways
from edge_agent.delivery.exchange import Exchange
from edge_agent.delivery.http import Http
from edge_agent.delivery.one_to_one import OneToOne
from edge_agent.delivery.pace import Manners
from edge_agent.delivery.ports import Fetched, Held, Target, Wish
from edge_agent.delivery.shared_pass import SharedPass
from edge_agent.delivery.transport import Errand, Patience
from edge_agent.errors import Retry
from edge_agent.link.https import Bounds
from edge_agent.ports import Clock
from fleet_contract.backoff import Backoff
from fleet_contract.blocks import index_of
from tests.fakes.agent_file_service import FileService, website
from tests.fakes.agent_run_world import FakeClock
from tests.fakes.agent_world import FakeLink

WAYS = ("one to one", "shared", "http")
AT_ONCE = Backoff(first_s=0.001, longest_s=0.001)
PATIENCE = Patience(silence_s=0.05, failures=3, file_s=5.0)


class Closed:
    """A transport that brings nothing."""

    way = "mqtt"

    def carry(self, errand: Errand) -> Iterator[tuple[int, bytes] | None]:
        raise Retry("this way is closed", code="closed-way")
        yield


def target_of(data: bytes, name: str = "toy-1.bundle", block_bytes: int | None = None, deltas: dict[str, str] | None = None) -> Target:
    return Target(f"bundles/{name}", hashlib.sha256(data).hexdigest(), len(data), index_of(data, block_bytes), deltas or {})


class Device:
    """`bring` a target into `part` over one way (a shared pass leaves over to one to one, as on a device)."""

    def __init__(self, way: str, service: FileService, folder: Path, clock: Clock, manners: Manners | None = None) -> None:
        self.service, self.link, self.part = service, FakeLink(), folder / "part"
        self.clock = clock
        ids = itertools.count()
        self.exchange = Exchange(self.link, clock, new_id=lambda: f"r{next(ids)}", poll_s=0.002)
        service.serve(self.link, self.exchange)
        self.files = OneToOne(self.exchange, patience=PATIENCE, backoff=AT_ONCE)
        bounds = Bounds(deadline_s=30.0, min_bytes_per_s=1.0, grace_s=5.0, stall_s=0.3)
        http = Http(self.exchange, clock, lambda: None, patience=PATIENCE, bounds=bounds, backoff=AT_ONCE)
        ways = Ways(
            shared=SharedPass(self.exchange, patience=PATIENCE) if way == "shared" else Closed(),
            one_to_one=self.files if way != "http" else Closed(),
            http=http if way == "http" else Closed(),
        )
        self.signed: dict[str, Target] = {}
        self.busy: Callable[[], bool] = lambda: False
        self.downloads = Downloads(ways, self.signed.__getitem__, manners or Manners(), clock, busy=lambda: self.busy())

    def bring(self, target: Target, held: Sequence[Held] = (), wanted: Callable[[], bool] = lambda: True) -> Fetched:
        return self.downloads.bring(target, self.part, held, Wish(wanted=wanted))

    def present(self, target: Target) -> set[int]:
        """The blocks that are right on the disk."""
        data, size = self.part.read_bytes(), target.index.block_bytes
        return {n for n in range(target.index.count) if target.index.matches(n, data[n * size : n * size + target.index.span(n)[1]])}

    def asked(self, target: Target) -> list[int]:
        """Every block that was asked for, by number, in order."""
        size = target.index.block_bytes
        return self.service.asked + [n for first, last in self.service.ranges for n in range(first // size, last // size + 1)]

    def forget_asked(self) -> None:
        self.service.asked.clear()
        self.service.ranges.clear()


@contextmanager
def device(
    way: str, files: dict[str, bytes], folder: Path, *, clock: Clock | None = None, manners: Manners | None = None
) -> Iterator[Device]:
    """`files` maps the fetch path of targets to their bytes."""
    service = FileService(files)
    with website(service) if way == "http" else nullcontext():
        yield Device(way, service, folder, clock or FakeClock(step_s=0.001), manners)
