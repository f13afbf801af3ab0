"""A device that does nothing but answer and update: the agent's own executor, slots, journal, outbox, trust, host and sandboxed worker, fed from a
folder instead of a network. It is forked from a process that has imported everything, so that it starts in milliseconds and can be killed often.
"""

import itertools
import json
import os
import platform
import secrets
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import numpy as np
import onnx

import firmware_profiles.catalog as profiles
from bench import readings
from edge_agent.clock import SystemClock
from edge_agent.errors import Missing, Reject
from edge_agent.inference.answering import Answerer
from edge_agent.inference.guest import ShadowGuest
from edge_agent.inference.host import InferenceHost
from edge_agent.inference.shadow import ShadowedHost
from edge_agent.outbox.settings import OutboxSettings
from edge_agent.outbox.store import Outbox
from edge_agent.storage.journal import Journal
from edge_agent.trust.client import Trust
from edge_agent.trust.time import TrustedTime
from edge_agent.update.executor import Executor
from edge_agent.update.inbox import Addressee, Inbox
from edge_agent.update.loop import UpdateLoop
from edge_agent.update.parts import Parts
from edge_agent.update.phases import Phase
from edge_agent.update.probation import Terms
from edge_agent.update.requests import Requests
from edge_agent.update.slots import Slots
from edge_agent.update.state import Installed, State
from fleet_contract.backoff import Backoff
from fleet_contract.bundle import Bundle
from fleet_contract.manifest import Limits
from tests.fakes import agent_run_models as models
from tests.fakes import bad_models
from tests.fakes.agent_device import downloads
from tests.fakes.agent_repository import DEVICE, PROFILE, MemoryRepository

BUNDLES = 4
_MODEL_CHARS = 160_000
_BLOCK_S = 0.004
"""What a block takes on its way, so that there is a download to be killed in."""
_READ_S = 0.08
"""What a small board's flash takes to give a bundle back, so that there is a check of it to be killed in."""
_LOOK_S = 0.005
_ROWS = 3
_PACE_S = 0.02
_PROBATION_REQUESTS = 12
_POISON_EVERY = 10
"""Fewer requests than a probation takes: none passes that cannot bear what a bad bundle cannot."""
_TRIAL_S = 60.0


@dataclass(frozen=True)
class Sight:
    """What the device shows of itself. `answering` is the bundle that gave the last answer, `beside` the one that runs and never may; `barred`: the
    ordered one is in quarantine; `refused` counts requests that were given up."""

    phase: str = ""
    active: str | None = None
    ordered: str | None = None
    answering: str | None = None
    beside: str | None = None
    barred: bool = False
    refused: int = 0
    trouble: str | None = None

    def runs(self, sha256: str) -> bool:
        """Settled on that bundle, and answering with it."""
        return self.phase == Phase.IDLE and self.active == self.ordered == self.answering == sha256


class World:
    """The server's side: a signed repository with BUNDLES bundles that share few blocks, `bad` more that fail their probation, and orders for a
    device."""

    def __init__(self, folder: Path, *, bad: int = 0) -> None:
        self._repository = MemoryRepository()
        self._good = {Bundle(archive).sha256: archive for archive in map(_archive, range(BUNDLES))}
        self._bad = {Bundle(archive).sha256: archive for archive in map(_bad_archive, range(bad))}
        self._archives = self._good | self._bad
        for archive in self._archives.values():
            self._repository.publish(archive)
        self.files, self.root = folder, self._repository.root_v1
        for name, data in self._repository.files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)

    @property
    def digests(self) -> list[str]:
        """Of the good bundles."""
        return list(self._good)

    @property
    def bad_digests(self) -> list[str]:
        return list(self._bad)

    def order(self, sha256: str, counter: int, *, shadow: bool = False) -> bytes:
        return self._repository.order(self._archives[sha256], counter, shadow=shadow or msgspec.UNSET)


class FolderFiles:
    """Implements delivery.ports.FileFetcher on a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def read(self, path: str, max_bytes: int) -> bytes:
        try:
            data = (self._folder / path).read_bytes()
        except FileNotFoundError as error:
            raise Missing(f"no file {path}") from error
        if len(data) > max_bytes:
            raise Reject("too large", code="too-large")
        return data

    def blocks(self, path: str, block_bytes: int, need: Sequence[int]) -> Iterator[tuple[int, bytes]]:
        with (self._folder / path).open("rb") as file:
            for number in need:
                time.sleep(_BLOCK_S)
                yield number, os.pread(file.fileno(), block_bytes, number * block_bytes)


class BoardSlots(Slots):
    """On a disk that takes its time."""

    def check(self, installed: Installed) -> None:
        time.sleep(_READ_S)
        super().check(installed)


class Device:
    """On the folder `state`; `order` is the file that its orders come in."""

    def __init__(self, state: Path, world: World, closing: ExitStack) -> None:
        self._order = state.parent / f"{state.name}.order"
        clock, files = SystemClock(), FolderFiles(world.files)
        store = self.store = Outbox(
            state / "outbox.db", new_epoch=lambda: secrets.token_hex(8), read=readings.read, settings=OutboxSettings(max_bytes=1 << 24)
        )
        closing.callback(store.close)
        trusted = TrustedTime(state / "time.json", clock, datetime(2026, 1, 1, tzinfo=UTC))
        trust = Trust(state / "tuf", world.root, files, trusted)
        self.host = InferenceHost(profiles.load(PROFILE), clock)
        closing.callback(self.host.close)
        beside = InferenceHost(profiles.load(PROFILE), clock, meek=True)
        closing.callback(beside.close)
        self.guest = ShadowGuest("toy", beside, lambda event: store.append([event]), clock)
        closing.callback(self.guest.end)
        self.inbox = Inbox(Addressee(DEVICE, PROFILE), trust, store, trusted)
        parts = Parts(
            profile=PROFILE,
            journal=Journal(state / "journal.json", State),
            slots=BoardSlots(state / "slots"),
            inbox=self.inbox,
            trust=trust,
            delivery=downloads(files, trust, clock),
            host=self.host,
            guest=self.guest,
            store=store,
            clock=clock,
            requests=Requests(state),
            terms=Terms(inputs=_PROBATION_REQUESTS * _ROWS, time_s=_TRIAL_S),
        )
        self.executor = Executor(parts, parts.journal.read() or State())
        self._updates = UpdateLoop(self.executor, backoff=Backoff(first_s=0.02, longest_s=0.2))
        self._answering: str | None = None
        self._refused = 0

    def serve(self, show: int) -> None:
        """Update in a thread, answer in another, and write what changes to the file descriptor `show`, until killed."""
        self._updates.start()
        self.start_answering(self._updates.appeal)
        told, seen = Sight(), b""
        while True:
            seen = self.take_order(seen)
            sight = self.look()
            if sight != told:
                os.write(show, json.dumps(asdict(sight)).encode() + b"\n")
                told = sight
            time.sleep(_LOOK_S)

    def start_answering(self, appeal: Callable[[], None]) -> None:
        """In a thread; `appeal` is the answerer's."""
        threading.Thread(target=self._answer, args=(appeal,), daemon=True).start()

    def take_order(self, seen: bytes) -> bytes:
        envelope = self._order.read_bytes() if self._order.exists() else b""
        if envelope != seen:
            self.inbox.put(envelope)
            self._updates.wake()
        return envelope

    def look(self) -> Sight:
        state = self.executor.state
        return Sight(
            phase=state.phase.value,
            active=state.active.sha256 if state.active else None,
            ordered=state.order.sha256 if state.order else None,
            answering=self._answering,
            beside=self.guest.running(),
            barred=state.order is not None and state.order.sha256 in state.quarantined,
            refused=self._refused,
            trouble=self._updates.trouble or state.error,
        )

    def _answer(self, appeal: Callable[[], None]) -> None:
        """One request after the other; now and then with what a bad bundle cannot bear."""
        answerer = Answerer(ShadowedHost(self.host, self.guest), lambda _: time.sleep(_LOOK_S), lambda _: None, appeal)
        plain = models.KNOWN_INPUTS[:_ROWS]
        poisoned = plain.copy()
        poisoned[0, 0] = bad_models.POISON
        for number in itertools.count(1):
            for answered in answerer.answer(models.VECTOR.tensor, poisoned if number % _POISON_EVERY == 0 else plain):
                self._refused += answered.inference is None
                self._answering = answered.inference.sha256 if answered.inference else self._answering
            time.sleep(_PACE_S)


def place_order(state: Path, envelope: bytes) -> None:
    """For the device on this folder; it takes the newest."""
    path = state.parent / f"{state.name}.order"
    temporary = path.with_suffix(".new")
    temporary.write_bytes(envelope)
    temporary.replace(path)


def fork(work) -> int:
    """The process id of a child that runs `work` and then ends, whatever comes of it; its standard error is ours."""
    process = os.fork()
    if process:
        return process
    code = 1
    try:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        work()
        code = 0
    finally:
        os._exit(code)


def _archive(number: int) -> bytes:
    weight = models.WEIGHT + np.float32(number)
    return _bundle(models.linear(weight), models.KNOWN_INPUTS @ weight, seed=number, version=f"{number + 1}.0.0")


def _bad_archive(number: int) -> bytes:
    """Passes its proof, and crashes or answers NaN on some inputs; the integer division that crashes on x86-64 gives an answer elsewhere."""
    effects = ("nan", "crash") if platform.machine() == "x86_64" else ("nan",)
    model = bad_models.model(effects[number % len(effects)], "on-poison")
    return _bundle(model, models.KNOWN_LOGITS, seed=BUNDLES + number, version=f"0.{number + 1}.0")


def _bundle(model: bytes, answers: np.ndarray, *, seed: int, version: str) -> bytes:
    loaded = onnx.load_from_string(model)
    loaded.doc_string = np.random.default_rng(seed).bytes(_MODEL_CHARS // 2).hex()
    return models.bundle(
        {"fp32": loaded.SerializeToString()}, answers=answers, version=version, limits=Limits(memory_mb=512, latency_ms=2_000)
    )
