"""An agent's update machinery on a folder, against a real TUF repository, with a host that does as it is told."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from edge_agent.clock import SystemClock
from edge_agent.delivery.downloads import Downloads, Ways
from edge_agent.delivery.pace import Manners
from edge_agent.delivery.ports import FileFetcher
from edge_agent.delivery.transport import Errand
from edge_agent.errors import Retry
from edge_agent.ports import Clock, Conduct, Host
from edge_agent.storage.journal import Journal
from edge_agent.trust.client import Trust
from edge_agent.trust.time import TrustedTime
from edge_agent.update.executor import Executor
from edge_agent.update.inbox import Addressee, Inbox
from edge_agent.update.parts import Parts
from edge_agent.update.phases import Phase
from edge_agent.update.probation import Terms
from edge_agent.update.reports import MEASURED
from edge_agent.update.requests import ROLLBACK, Requests
from edge_agent.update.slots import Slots
from edge_agent.update.state import State
from fleet_contract.bundle import Bundle
from fleet_contract.messages import Event
from tests.fakes.agent_repository import DEVICE, PROFILE, MemoryRepository
from tests.fakes.agent_run_world import FakeClock, FakeStore
from tests.fakes.agent_world import MemoryFiles, ScriptedGuest, ScriptedHost
from tests.fakes.small_bundle import small_bundle

ONE, TWO, THREE = (small_bundle(f"{number}.0.0", model=bytes(30_000) + bytes([number])) for number in (1, 2, 3))


class RealDay(FakeClock):
    """Orders are dated by the real day; time passes when the test says so."""

    def now(self) -> datetime:
        return SystemClock().now()


class BlockFiles(FileFetcher, Protocol):
    def blocks(self, path: str, block_bytes: int, need: Sequence[int]) -> Iterator[tuple[int, bytes]]:
        """The wanted blocks, in any order."""


class FileTransport:
    """One to one, straight from the files."""

    way = "mqtt"

    def __init__(self, files: BlockFiles) -> None:
        self._files = files

    def carry(self, errand: Errand) -> Iterator[tuple[int, bytes]]:
        while errand.need:
            before = len(errand.need)
            yield from self._files.blocks(errand.path, errand.block_bytes, sorted(errand.need))
            if len(errand.need) == before:
                raise Retry(f"no right block of {errand.path} came", code="bad-block")


def downloads(files: BlockFiles, trust: Trust, clock: Clock) -> Downloads:
    way = FileTransport(files)
    return Downloads(Ways(way, way, way), trust.target, Manners(transport="mqtt", metered=True), clock)


class Device:
    """An agent's update machinery on a folder; `restart` is a new process on it."""

    terms = Terms(inputs=16, time_s=10)

    def __init__(self, folder: Path, repository: MemoryRepository | None = None) -> None:
        """With a repository it is the one that `folder` belongs to."""
        self.folder = folder
        self.repository = repository or _published()
        self.files = MemoryFiles(self.repository.files)
        self.store = FakeStore()
        self.clock = RealDay()
        self.slots = Slots(folder / "slots")
        self.journal = Journal(folder / "journal.json", State)
        self.requests = Requests(folder)
        self.conducts: dict[str, Conduct] = {}
        self.restart()

    def restart(self) -> None:
        self.host = self.make_host()
        self.guest = ScriptedGuest()
        time = TrustedTime(self.folder / "time.json", self.clock, datetime(2026, 1, 1, tzinfo=UTC))
        trust = Trust(self.folder / "tuf", self.repository.root_v1, self.files, time)
        self.inbox = Inbox(Addressee(DEVICE, PROFILE), trust, self.store, time)
        parts = Parts(
            profile=PROFILE,
            journal=self.journal,
            slots=self.slots,
            inbox=self.inbox,
            trust=trust,
            delivery=downloads(self.files, trust, self.clock),
            host=self.host,
            guest=self.guest,
            store=self.store,
            clock=self.clock,
            requests=self.requests,
            terms=self.terms,
        )
        self.executor = Executor(parts, self.journal.read() or State())

    def make_host(self) -> Host:
        host = ScriptedHost()
        host.conducts = self.conducts
        return host

    @property
    def state(self) -> State:
        return self.executor.state

    @property
    def version(self) -> str | None:
        return self.state.active.version if self.state.active else None

    def order(self, archive: bytes, counter: int = 1, **changes: object) -> None:
        self.inbox.put(self.repository.order(archive, counter, **changes))

    def settle(self) -> None:
        """Turn until nothing more happens at once."""
        for _ in range(50):
            if not self.executor.turn():
                return
        raise AssertionError(f"still busy: {self.state}")

    def until(self, phase: Phase) -> None:
        while self.state.phase is not phase:
            assert self.executor.turn(), f"stuck while {self.state.phase}"

    def answer(self, archive: bytes, count: int = 16, **failures: int) -> None:
        """What the host will say of this bundle once it has been switched to."""
        self.conducts[Bundle(archive).sha256] = Conduct(answered=count, requests=count, **failures)

    def recall(self) -> None:
        self.requests.ask(ROLLBACK)

    def install(self, archive: bytes, counter: int = 1) -> None:
        self.order(archive, counter)
        self.answer(archive)
        self.settle()
        assert self.version == Bundle(archive).manifest.version

    def events(self) -> list[str]:
        """The kinds of what was told, but for the measurements that come with a proof."""
        return [event.kind for event in self.store.of(Event) if event.kind != MEASURED]

    def measurements(self) -> list[dict]:
        return [event.detail for event in self.store.of(Event) if event.kind == MEASURED]

    def last(self, kind: str) -> dict:
        return next(event.detail for event in reversed(self.store.of(Event)) if event.kind == kind)


def _published() -> MemoryRepository:
    repository = MemoryRepository()
    for archive in (ONE, TWO, THREE):
        repository.publish(archive)
    return repository
