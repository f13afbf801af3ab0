"""The agent's own trust, delivery and update machinery on a folder, over a server that may be hostile; only the model host is a script."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

from edge_agent.clock import SystemClock
from edge_agent.delivery.downloads import Downloads, Ways
from edge_agent.delivery.exchange import Exchange
from edge_agent.delivery.http import Http
from edge_agent.delivery.one_to_one import OneToOne
from edge_agent.delivery.pace import Manners
from edge_agent.delivery.shared_pass import SharedPass
from edge_agent.delivery.transport import Patience
from edge_agent.errors import Retry
from edge_agent.link.https import Bounds
from edge_agent.storage.journal import Journal
from edge_agent.trust.client import Trust
from edge_agent.trust.time import TrustedTime
from edge_agent.update.executor import Executor
from edge_agent.update.inbox import Addressee, Inbox
from edge_agent.update.parts import Parts
from edge_agent.update.probation import Terms
from edge_agent.update.requests import Requests
from edge_agent.update.slots import Slots
from edge_agent.update.state import State
from fleet_contract.backoff import Backoff
from fleet_contract.bundle import Bundle
from fleet_contract.messages import Event
from tests.fakes.agent_repository import DEVICE, PROFILE, MemoryRepository
from tests.fakes.agent_run_world import FakeStore
from tests.fakes.agent_world import ScriptedGuest, ScriptedHost
from tests.fakes.hostile_server import HostileServer

BUILT_AT = datetime(2026, 1, 1, tzinfo=UTC)
_TURNS = 60


class Clock:
    """The real day, moved by `ahead`; each look at `monotonic_s` takes `step_s`."""

    def __init__(self, step_s: float = 0.2) -> None:
        self.ahead = timedelta(0)
        self.step_s = step_s
        self._elapsed_s = 0.0

    def now(self) -> datetime:
        return SystemClock().now() + self.ahead

    def monotonic_s(self) -> float:
        self._elapsed_s += self.step_s
        return self._elapsed_s


class AttackedDevice:
    """`restart` is a new process on the same folder. Patience is short, so that what would be minutes is moments."""

    patience = Patience(silence_s=5.0, failures=2, file_s=60.0)
    bounds = Bounds(deadline_s=10.0, min_bytes_per_s=1_024.0, grace_s=0.2, stall_s=0.3)

    def __init__(self, folder: Path, repository: MemoryRepository, *, manners: Manners = Manners(transport="mqtt", metered=True)) -> None:
        self.folder, self._repository, self._manners = folder, repository, manners
        self.server = HostileServer(repository.files)
        self.clock = Clock()
        self.store = FakeStore()
        self.slots = Slots(folder / "slots")
        self.journal = Journal(folder / "journal.json", State)
        self._ids = 0
        folder.mkdir(parents=True, exist_ok=True)
        self.restart()

    def restart(self) -> None:
        self.host, self.guest = ScriptedHost(), ScriptedGuest()
        exchange = Exchange(self.server, self.clock, new_id=self._new_id)
        self.server.hear = exchange.receive
        small = OneToOne(exchange, patience=self.patience, backoff=Backoff(0.0, 0.0))
        self.time = TrustedTime(self.folder / "time", self.clock, BUILT_AT)
        self.trust = Trust(self.folder / "tuf", self._repository.root_v1, small, self.time)
        self.inbox = Inbox(Addressee(DEVICE, PROFILE), self.trust, self.store, self.time)
        http = Http(exchange, SystemClock(), lambda: None, patience=self.patience, bounds=self.bounds, backoff=Backoff(0.0, 0.0))
        ways = Ways(SharedPass(exchange), small, http)
        parts = Parts(
            profile=PROFILE,
            journal=self.journal,
            slots=self.slots,
            inbox=self.inbox,
            trust=self.trust,
            delivery=Downloads(ways, self.trust.target, self._manners, self.clock),
            host=self.host,
            guest=self.guest,
            store=self.store,
            clock=self.time,
            requests=Requests(self.folder),
            terms=Terms(time_s=0.0),
        )
        self.executor = Executor(parts, self.journal.read() or State())

    @property
    def state(self) -> State:
        return self.executor.state

    @property
    def version(self) -> str | None:
        """Of the bundle that answers."""
        return self.state.active.version if self.state.active else None

    def order(self, archive: bytes, counter: int, **changes: object) -> None:
        self.inbox.put(self._repository.order(archive, counter, **changes))

    def settle(self) -> str | None:
        """Turn until nothing more happens; the code of the Retry that ended it, or None."""
        for _ in range(_TURNS):
            try:
                if not self.executor.turn():
                    return None
            except Retry as error:
                return error.code
        raise AssertionError(f"still busy: {self.state}")

    def install(self, archive: bytes, counter: int, **changes: object) -> None:
        self.order(archive, counter, **changes)
        code = self.settle()
        assert self.version == Bundle(archive).manifest.version, (code, self.state.error, self.last_event())

    def last_event(self) -> Event | None:
        return next(iter(reversed(self.store.of(Event))), None)

    def codes(self, kind: str) -> list[object]:
        """Of the events of this kind, in order."""
        return [event.detail.get("code") for event in self.store.of(Event) if event.kind == kind]

    def files_outside(self, allowed: tuple[str, ...] = ("tuf", "slots", "journal.json", "time")) -> list[str]:
        """What lies beside what the agent may write."""
        return sorted(path.name for path in self.folder.iterdir() if path.name not in allowed)

    def _new_id(self) -> str:
        self._ids += 1
        return f"r{self._ids}"
