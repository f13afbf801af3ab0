"""The agent's ports in memory, as updates and the uplink need them."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from edge_agent.errors import Missing, Reject, Retry
from edge_agent.ports import Choice, Conduct, Measurement, Proof
from fleet_contract.bundle import Bundle
from fleet_contract.messages import Ack, Batch, FromDevice, Status


class MemoryFiles:
    """Implements delivery.ports.FileFetcher. `offline` fails everything; `spoil` may change a block; after `budget` blocks the connection is gone."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files = files
        self.offline = False
        self.budget: int | None = None
        self.spoil: Callable[[int, bytes], bytes] = lambda index, data: data
        self.reads: list[str] = []
        self.sent: list[int] = []

    def read(self, path: str, max_bytes: int) -> bytes:
        self.reads.append(path)
        data = self._find(path)
        if len(data) > max_bytes:
            raise Reject("too large", code="too-large")
        return data

    def blocks(self, path: str, block_bytes: int, need: Sequence[int]) -> Iterator[tuple[int, bytes]]:
        data = self._find(path)
        for index in need:
            if self.budget is not None:
                if self.budget == 0:
                    raise Retry("the connection is gone", code="offline")
                self.budget -= 1
            self.sent.append(index)
            yield index, self.spoil(index, data[index * block_bytes : (index + 1) * block_bytes])

    def _find(self, path: str) -> bytes:
        if self.offline:
            raise Retry("not connected", code="offline")
        if path not in self.files:
            raise Missing(f"no file {path}")
        return self.files[path]


class ScriptedHost:
    """Implements the part of ports.Host that updates use. `refuse` maps a bundle's version to the error that proving or activating it raises."""

    def __init__(self) -> None:
        self.active_sha256: str | None = None
        self.proven: list[str] = []
        self.activated: list[str] = []
        self.chosen: Choice | None = None
        self.refuse_proof: dict[str, Exception] = {}
        self.refuse_activation: dict[str, Exception] = {}
        self.refuse_examination: Exception | None = None
        self.conducts: dict[str, Conduct] = {}
        self._known: set[str] = set()

    def prove(self, bundle: Bundle) -> Proof:
        self.proven.append(bundle.manifest.version)
        if bundle.manifest.version in self.refuse_proof:
            raise self.refuse_proof[bundle.manifest.version]
        measured = Measurement("fp32", "onnxruntime:cpu", "right", "", 10.0, 20.0, 50_000_000, 5.0)
        return Proof(bundle.sha256, measured, (measured,))

    def activate(self, bundle: Bundle, chosen: Choice | None = None) -> None:
        self.chosen = chosen
        if bundle.manifest.version in self.refuse_activation:
            raise self.refuse_activation[bundle.manifest.version]
        self.activated.append(bundle.manifest.version)
        self.active_sha256 = bundle.sha256
        self._known.add(bundle.sha256)

    def deactivate(self) -> None:
        self.active_sha256 = None

    def examine(self) -> None:
        if self.refuse_examination is not None:
            raise self.refuse_examination

    def conduct(self, sha256: str) -> Conduct:
        """Zeros until the bundle is active for the first time."""
        return self.conducts.get(sha256, Conduct()) if sha256 in self._known else Conduct()


class ScriptedGuest:
    """Implements ports.Guest. `refuse_proof` and `refuse_start` map a bundle's version to the error that is raised."""

    def __init__(self) -> None:
        self.proven: list[str] = []
        self.started: list[str] = []
        self.chosen: Choice | None = None
        self.refuse_proof: dict[str, Exception] = {}
        self.refuse_start: dict[str, Exception] = {}
        self._running: str | None = None

    def prove(self, bundle: Bundle) -> Proof:
        self.proven.append(bundle.manifest.version)
        if bundle.manifest.version in self.refuse_proof:
            raise self.refuse_proof[bundle.manifest.version]
        measured = Measurement("fp32", "onnxruntime:cpu", "right", "", 10.0, 20.0, 50_000_000, 5.0)
        return Proof(bundle.sha256, measured, (measured,))

    def start(self, bundle: Bundle, chosen: Choice | None = None) -> None:
        self.started.append(bundle.manifest.version)
        if bundle.manifest.version in self.refuse_start:
            raise self.refuse_start[bundle.manifest.version]
        self._running, self.chosen = bundle.sha256, chosen

    def end(self) -> None:
        self._running = None

    def running(self) -> str | None:
        return self._running


@dataclass(frozen=True)
class FakeSent:
    """Implements ports.Sent."""

    is_unheard: bool

    def unheard(self) -> bool:
        return self.is_unheard


class FakeLink:
    """Implements ports.Link; `sent` is what went up. `accept` is how many messages are taken before the connection is gone, `listens` whether
    somebody gets them."""

    def __init__(self) -> None:
        self.connected = self.listens = True
        self.accept: int | None = None
        self.sent: list[FromDevice] = []
        self.on_send: Callable[[FromDevice], None] = lambda message: None
        self.subscribed: list[str] = []

    def subscribe(self, topic: str) -> None:
        self.subscribed.append(topic)

    def unsubscribe(self, topic: str) -> None:
        self.subscribed.remove(topic)

    def send(self, message: FromDevice) -> FakeSent:
        if self.accept is not None:
            self.connected = self.accept > 0
            self.accept -= 1
        if not self.connected:
            raise Retry("not connected", code="offline")
        self.sent.append(message)
        self.on_send(message)
        return FakeSent(not self.listens)

    def batches(self) -> list[Batch]:
        return [message for message in self.sent if isinstance(message, Batch)]

    def statuses(self) -> list[Status]:
        return [message for message in self.sent if isinstance(message, Status)]


def ack_of(batch: Batch) -> Ack:
    return Ack(epoch=batch.epoch, lane=batch.lane, ranges=[(batch.first, batch.last)])
