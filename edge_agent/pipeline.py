"""The loop from source to store: read, validate, infer, record. An input's records and the source's cursor are committed together, once.

While the worker computes one micro-batch, it has the next one already, the one before is sketched and committed in a thread of its own, and another
is read and checked. They stay in order. Whatever waits for the model goes to it together.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field

from edge_agent.clerk import Clerk
from edge_agent.errors import Retry
from edge_agent.inference import validation
from edge_agent.inference.answering import Answered, Answerer
from edge_agent.inference.validation import Batch
from edge_agent.monitor.books import Books, Manners
from edge_agent.monitor.tray import Tray
from edge_agent.patience import Patience, Stopped
from edge_agent.ports import Clock, Inferring, Input, Sink, Source, Store
from edge_agent.stage import Stage
from fleet_contract.inputs import InputSpec
from fleet_contract.order import SamplingCampaign

log = logging.getLogger(__name__)

MODEL_CHANGED = "model-changed"
_HANDS = 2
"""The worker finds the next batch when it has answered one."""


@dataclass(frozen=True)
class Pace:
    """`micro_batch` inputs at most go to the model at once; fewer when the source has no more just now. A source that has nothing is left alone for
    `idle_wait_s` at first and for `max_idle_s` at last; a model is looked for after `model_wait_s`. `manners`: see Books."""

    micro_batch: int = 16
    idle_wait_s: float = 0.02
    max_idle_s: float = 0.25
    model_wait_s: float = 0.5
    retry_s: float = 0.2
    max_retry_s: float = 5.0
    manners: Manners = field(default_factory=Manners)


@dataclass(frozen=True)
class Observation:
    """For Status. `inputs` (all that were consumed or asked) and `refused` count since the store's epoch began."""

    inputs: int = 0
    refused: dict[str, int] = field(default_factory=dict)
    exhausted: bool = False
    campaign: str | None = None


class Pipeline:
    """Consumes one source with whatever model the host runs. `run` belongs to one thread; `set_campaign` and `observe` may be called from any."""

    def __init__(
        self,
        source: Source,
        host: Inferring,
        store: Store,
        clock: Clock,
        pace: Pace = Pace(),
        appeal: Callable[[], None] = lambda: None,
        sinks: Sequence[Sink] = (),
        tray: Tray | None = None,
        origin: str = "",
    ) -> None:
        """`appeal`: see Answerer. `tray` is where local applications' requests wait to be recorded, if they are. `origin` names the source: the
        store's cursor is none of its own when it was committed under another."""
        self._source = source
        self._host = host
        self._store = store
        self._clock = clock
        self._pace = pace
        self._stop = threading.Event()
        self._patience = Patience(pace.retry_s, pace.max_retry_s)
        self._books = Books(store, clock, pace.manners, self._patience.pause, sinks, origin)
        self._tray = tray
        self._answerer = Answerer(host, self._patience.pause, self._books.note_failure, appeal)
        self._campaign: SamplingCampaign | None = None
        self._exhausted = False
        self._under_way: deque[Batch] = deque()
        self._is_broken = False
        self._idle = _Idle(pace.idle_wait_s, pace.max_idle_s)

    def set_campaign(self, campaign: SamplingCampaign | None) -> None:
        """What the newest order asks to sample. A campaign that this store has finished is not begun again."""
        self._campaign = campaign

    def observe(self) -> Observation:
        counted = self._books.tally
        return Observation(counted.inputs, counted.refused, self._exhausted, self._books.campaign)

    def run(self, stop: threading.Event) -> None:
        """Work until `stop` is set. An input whose records are not committed by then is read again at the next start, if the source can resume.
        Without a model nothing is consumed, nor with one that only local applications can feed; beside an exhausted source it waits.
        Raises Fatal when the source can never feed the model."""
        self._stop = stop
        self._patience.begin(stop)
        if self._books.is_of_other_source:
            log.warning("what was read last came from another source; this one is read from its beginning")
        with ExitStack() as ending:
            if self._tray is not None:
                ending.enter_context(closing(Clerk(self._tray, self._books, self._pace.manners.gather_s, lambda: self._campaign)))
            recording = ending.enter_context(closing(Stage("recording", self._record)))
            inference = Stage("inference", self._infer, recording.put, hands=_HANDS, overlaps=self._forgets)
            ending.enter_context(closing(inference))
            try:
                while not stop.is_set():
                    self._follow(self._wait_for_model(), inference, recording)
            except Stopped:
                return

    def _wait_for_model(self) -> InputSpec:
        """What it is fed with. Raises Stopped."""
        while True:
            model = self._host.active()
            if model is not None and validation.fed_by_source(model.manifest.input) is not None:
                return model.manifest.input
            if self._stop.wait(self._pace.model_wait_s):
                raise Stopped

    def _follow(self, spec: InputSpec, inference: Stage, recording: Stage) -> None:
        """Feed inputs of this shape until the model wants another; what was read for the old shape is then read again for the new."""
        try:
            for inputs in _micro_batches(
                self._source.read(spec, self._books.cursor()), validation.batch_rows(spec, self._pace.micro_batch)
            ):
                self._exhausted = inputs is None
                if inputs:
                    self._dispatch(inputs, spec, inference)
                else:
                    self._rest(inference, recording)
                if self._stop.is_set() or self._wants_other(spec):
                    break
            _finish(inference, recording)
        except Retry as error:
            if error.code != "model-swapped":
                raise
            recording.settle()
            self._give_up()

    def _dispatch(self, inputs: Sequence[Input], spec: InputSpec, inference: Stage) -> None:
        self._idle.reset()
        batch = validation.check(inputs, spec, after_break=self._is_broken)
        self._is_broken = batch.is_broken
        self._under_way.append(batch)
        inference.put(batch)

    def _infer(self, batch: Batch) -> tuple[Batch, list[Answered]]:
        return batch, self._answerer.answer(batch.tensor, batch.values, batch.begins) if batch.passed else []

    def _forgets(self) -> bool:
        """Whether the model answers a batch without what the one before left behind."""
        model = self._host.active()
        return model is None or not model.manifest.states

    def _record(self, work: tuple[Batch, list[Answered]]) -> None:
        batch, answered = work
        self._books.enter(batch, answered, self._source.losses())
        self._under_way.popleft()
        self._books.sample(self._campaign, exhausted=False)

    def _rest(self, inference: Stage, recording: Stage) -> None:
        """The source has nothing just now. One that waited itself is not waited for, so that an input is answered when it comes; nor are the stages
        waited for, whose work makes the next batch larger."""
        self._stop.wait(self._idle.wait_s(self._clock.monotonic_s()))
        if not (inference.is_idle and recording.is_idle):
            return
        _finish(inference, recording)
        self._books.rest(self._source.losses())
        self._books.sample(self._campaign, exhausted=self._exhausted and self._tray is None)

    def _give_up(self) -> None:
        """What no source reads again is lost to the change, and counted."""
        lost = sum(taken.cursor is None for batch in self._under_way for taken in batch.inputs)
        self._under_way.clear()
        self._books.rest({MODEL_CHANGED: lost} if lost else {})

    def _wants_other(self, spec: InputSpec) -> bool:
        model = self._host.active()
        return model is not None and model.manifest.input != spec


class _Idle:
    """How long to leave a source alone that has nothing: not at all at first, since it may wait itself; longer each time that it did not."""

    def __init__(self, first_s: float, longest_s: float) -> None:
        self._first_s, self._longest_s = first_s, longest_s
        self.reset()

    def reset(self) -> None:
        self._next_s = self._first_s
        self._asked_s: float | None = None

    def wait_s(self, now_s: float) -> float:
        before_s, self._asked_s = self._asked_s, now_s
        if before_s is None or now_s - before_s >= 2 * self._next_s:
            return 0.0
        wait_s, self._next_s = self._next_s, min(2 * self._next_s, self._longest_s)
        return wait_s


def _finish(inference: Stage, recording: Stage) -> None:
    inference.settle()
    recording.settle()


def _micro_batches(stream: Iterator[Input | None], size: int) -> Iterator[list[Input] | None]:
    """Up to `size` inputs at a time, fewer where the source pauses; an empty list for a pause, None for ever once it is exhausted."""
    gathered: list[Input] = []
    for taken in stream:
        if taken is not None:
            gathered.append(taken)
        if taken is None or len(gathered) == size:
            yield gathered
            gathered = []
    if gathered:
        yield gathered
    while True:
        yield None
