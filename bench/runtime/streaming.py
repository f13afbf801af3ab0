"""(b) The int8 conv net on frames in memory, (c) on JPEG files of 640x480: source, worker, sketch and outbox as an agent has them, each next to a loop
written by hand around the engine with as many threads. Turns alternate; a pipeline's turn ends when its last result is committed."""

import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from itertools import takewhile
from pathlib import Path

import cv2
import numpy as np
import onnxruntime

from bench import readings
from bench.measure import Aim
from bench.runtime import convnet
from bench.runtime.models import bundle_of
from edge_agent.clock import SystemClock
from edge_agent.inference.host import InferenceHost
from edge_agent.outbox.store import Outbox
from edge_agent.pipeline import Pace, Pipeline
from edge_agent.ports import Input
from edge_agent.sources.backlog import Rules
from edge_agent.sources.folder import PictureFolder
from edge_agent.sources.intake import Intake
from firmware_profiles import catalog
from fleet_contract import images
from fleet_contract.bundle import Bundle
from fleet_contract.inputs import InputSpec

MEMORY_AIM, JPEG_AIM = 0.93, 0.9
ROUNDS = 7
FRAMES = 1_600
JPEGS = 400
_BATCH = Pace().micro_batch
_PROFILE = "generic-x86-64"
_WIDTH, _HEIGHT = 640, 480
_PATIENCE_S = 120.0


def measure() -> Iterator[tuple[list[tuple[str, ...]], list[Aim]]]:
    model = convnet.int8_net()
    session = _session(model, catalog.load(_PROFILE).worker.threads)
    frames = convnet.pictures(FRAMES)
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory(prefix="bench-runtime-") as name:
        folder = Path(name)
        files = _write_jpegs(folder / "jpegs")
        with _streaming(model, _Turns(lambda spec: _from_memory(frames), str(FRAMES - 1)), folder / "memory.db") as turn:
            rates = _interleave(lambda: _gather_and_infer(session, frames), turn, FRAMES)
        yield _told("frames in memory", "bare run", rates, MEMORY_AIM)
        with _streaming(model, _Turns(lambda spec: _from_files(folder / "jpegs", spec), files[-1].name), folder / "jpegs.db") as turn:
            rates = _interleave(lambda: _decode_and_infer(session, files), turn, JPEGS)
        yield _told("JPEG files", "loop by hand", rates, JPEG_AIM)


@dataclass(frozen=True)
class _Rates:
    """Inputs a second, round by round."""

    by_hand: list[float]
    pipeline: list[float]


def _interleave(by_hand: Callable[[], None], pipeline: Callable[[], None], count: int) -> _Rates:
    """After one round that is not counted."""
    rates = _Rates([], [])
    for turn in range(ROUNDS + 1):
        pairs = [(by_hand, rates.by_hand), (pipeline, rates.pipeline)]
        for run, found in pairs if turn % 2 else reversed(pairs):
            begun_s = time.perf_counter()
            run()
            spent_s = time.perf_counter() - begun_s
            if turn:
                found.append(count / spent_s)
    return rates


def _told(what: str, peer: str, rates: _Rates, aim: float) -> tuple[list[tuple[str, ...]], list[Aim]]:
    ratio = statistics.median(ours / theirs for ours, theirs in zip(rates.pipeline, rates.by_hand, strict=True))
    rows = [(f"{what}: {name}", *_figures(found)) for name, found in ((peer, rates.by_hand), ("pipeline", rates.pipeline))]
    return [("", "median a second", "worst", "best"), *rows], [Aim(f"{what}, share of the {peer}", round(ratio, 3), aim)]


def _figures(rates: Sequence[float]) -> tuple[str, ...]:
    return tuple(f"{value:.0f}" for value in (statistics.median(rates), min(rates), max(rates)))


@contextmanager
def _streaming(model: bytes, turns: "_Turns", database: Path) -> Iterator[Callable[[], None]]:
    """A pipeline with its threads, its worker and its outbox; each call gives it one turn's inputs and waits for their last commit."""
    with ExitStack() as closing:
        host = InferenceHost(catalog.load(_PROFILE), SystemClock())
        closing.callback(host.close)
        host.activate(Bundle(bundle_of(model, convnet.SPEC, convnet.pictures(4).astype(np.float32))))
        store = Outbox(database, new_epoch=lambda: "bench", read=readings.read)
        closing.callback(store.close)
        source = Intake(turns, Rules("block"), longest_idle_s=0)
        closing.callback(source.close)
        pipeline, stop = Pipeline(source, host, store, SystemClock()), threading.Event()
        thread = threading.Thread(target=pipeline.run, args=(stop,))
        thread.start()
        closing.callback(thread.join)
        closing.callback(stop.set)
        commits = threading.Condition()
        store.listen(lambda: _notify(commits))
        yield lambda: _run_turn(turns, store, commits)


def _notify(commits: threading.Condition) -> None:
    with commits:
        commits.notify_all()


def _run_turn(turns: "_Turns", store: Outbox, commits: threading.Condition) -> None:
    wanted = turns.begin()
    with commits:
        if not commits.wait_for(lambda: store.cursor() == wanted, _PATIENCE_S):
            raise TimeoutError(f"the pipeline did not commit {wanted} within {_PATIENCE_S:g} s")
    store.append([])


class _Turns:
    """Implements ports.Source: the same inputs again at each turn, with numbers of their own."""

    def __init__(self, inputs: Callable[[InputSpec], Iterator[Input]], last: str) -> None:
        self._inputs, self._last = inputs, last
        self._begun = threading.Semaphore(0)
        self._turns = 0

    def begin(self) -> str:
        """The cursor of the turn's last input."""
        self._turns += 1
        self._begun.release()
        return f"{self._turns}-{self._last}"

    def read(self, spec: InputSpec, after: str | None) -> Iterator[Input | None]:
        turn = 0
        while True:
            if not self._begun.acquire(timeout=0.1):
                yield None
                continue
            turn += 1
            for taken in self._inputs(spec):
                name = f"{turn}-{taken.id}"
                yield replace(taken, id=name, cursor=name)

    def losses(self) -> dict[str, int]:
        return {}

    def close(self) -> None: ...


def _from_memory(frames: np.ndarray) -> Iterator[Input]:
    clock = SystemClock()
    for number, frame in enumerate(frames):
        yield Input(str(number), clock.now(), None, images.PNG, b"", frame)


def _from_files(folder: Path, spec: InputSpec) -> Iterator[Input]:
    return takewhile(lambda taken: taken is not None, PictureFolder(folder, SystemClock()).read(spec, None))


def _session(model: bytes, threads: int) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def _gather_and_infer(session: onnxruntime.InferenceSession, frames: np.ndarray) -> None:
    """Frame by frame, as they come, into one array, which is allocated once; as many at a time as the pipeline takes."""
    batch = np.empty((_BATCH, *frames.shape[1:]), np.float32)
    for at in range(0, len(frames), _BATCH):
        for place, frame in zip(batch, frames[at : at + _BATCH], strict=True):
            place[...] = frame
        session.run(None, {"input": batch})


def _decode_and_infer(session: onnxruntime.InferenceSession, files: Sequence[Path]) -> None:
    """Into one array, which is allocated once."""
    spec = convnet.SPEC
    batch = np.empty((1, spec.channels, spec.height, spec.width), np.float32)
    for file in files:
        picture = cv2.imdecode(np.frombuffer(file.read_bytes(), np.uint8), cv2.IMREAD_COLOR)
        small = cv2.resize(picture, (spec.width, spec.height), interpolation=cv2.INTER_AREA)
        np.copyto(batch[0], cv2.cvtColor(small, cv2.COLOR_BGR2RGB).transpose(2, 0, 1))
        session.run(None, {"input": batch})


def _write_jpegs(folder: Path) -> list[Path]:
    """Scenes with edges, texture and noise, some 60 kB each."""
    folder.mkdir()
    rng = np.random.default_rng(9)
    files = []
    for number in range(JPEGS):
        coarse = rng.uniform(0, 255, (12, 16, 3)).astype(np.float32)
        scene = cv2.resize(coarse, (_WIDTH, _HEIGHT), interpolation=cv2.INTER_CUBIC) + rng.normal(0, 2, (_HEIGHT, _WIDTH, 3))
        files.append(folder / f"{number:04d}.jpg")
        cv2.imwrite(str(files[-1]), np.clip(scene, 0, 255).astype(np.uint8))
    return files
