"""The loop from source to store: read, validate, infer, record. An input's records and the source's cursor are committed together, once."""

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from edge_agent.errors import Retry
from edge_agent.inference import validation
from edge_agent.inference.answering import Answerer
from edge_agent.monitor import tally
from edge_agent.monitor.recorder import Recorder
from edge_agent.monitor.sampling import Sampler, records_of
from edge_agent.ports import Clock, Host, Input, Source, Store
from fleet_contract.inputs import ImageInput, VectorInput
from fleet_contract.messages import Event, Record, SketchWindow
from fleet_contract.order import SamplingCampaign

CAMPAIGN_MARK = "campaign"


@dataclass(frozen=True)
class Pace:
    """`micro_batch` inputs at most go to the model at once; fewer when the source has no more just now. Refusals are told at the latest `report_s`
    after the first. A campaign closes early when no input comes for `sampling_idle_s` and there are as many as it wants, or for `sampling_patience_s`."""

    micro_batch: int = 16
    idle_wait_s: float = 0.05
    retry_s: float = 0.2
    max_retry_s: float = 5.0
    report_s: float = 10.0
    sampling_idle_s: float = 10.0
    sampling_patience_s: float = 60.0


@dataclass(frozen=True)
class Observation:
    """For Status. `inputs` (all that were consumed) and `refused` count since the store's epoch began."""

    inputs: int = 0
    refused: dict[str, int] = field(default_factory=dict)
    exhausted: bool = False
    campaign: str | None = None


class _Stopped(Exception):
    """The stop event was set while something was being repeated."""


class Pipeline:
    """Consumes one source with whatever model the host runs. `run` belongs to one thread; `set_campaign` and `observe` may be called from any."""

    def __init__(
        self, source: Source, host: Host, store: Store, clock: Clock, pace: Pace = Pace(), appeal: Callable[[], None] = lambda: None
    ) -> None:
        """`appeal`: see Answerer."""
        self._source = source
        self._host = host
        self._store = store
        self._clock = clock
        self._pace = pace
        self._stop = threading.Event()
        self._answerer = Answerer(host, self._pause, self._note_failure, appeal)
        self._sampler = Sampler(pace.sampling_idle_s, pace.sampling_patience_s)
        self._recorder = Recorder(self._sampler)
        self._campaign: SamplingCampaign | None = None
        self._considered: SamplingCampaign | None = None
        self._unavailable = False
        self._tally = tally.from_mark(store.mark(tally.MARK))
        self._unreported_since_s: float | None = None
        self._observation = Observation(inputs=self._tally.inputs, refused=self._tally.refused)

    def set_campaign(self, campaign: SamplingCampaign | None) -> None:
        """What the newest order asks to sample. A campaign that this store has finished is not begun again."""
        self._campaign = campaign

    def observe(self) -> Observation:
        return self._observation

    def run(self, stop: threading.Event) -> None:
        """Work until `stop` is set. An input whose records are not committed by then is read again at the next start, if the source can resume.
        Without a model nothing is consumed; beside an exhausted source it waits. Raises Fatal when the source can never feed the model."""
        self._stop = stop
        try:
            while not stop.is_set():
                model = self._host.active()
                if model is None:
                    stop.wait(self._pace.idle_wait_s)
                else:
                    self._follow(model.manifest.input)
        except _Stopped:
            return

    def _follow(self, spec: ImageInput | VectorInput) -> None:
        """Feed inputs of this shape until the model wants another; what was read for the old shape is then read again for the new."""
        for inputs in _micro_batches(self._source.read(spec, self._store.cursor()), self._pace.micro_batch):
            self._observe(exhausted=inputs is None)
            try:
                self._step(inputs or [], spec)
            except Retry as error:
                if error.code != "model-swapped":
                    raise
                return
            if self._stop.is_set() or self._wants_other(spec):
                return

    def _wants_other(self, spec: ImageInput | VectorInput) -> bool:
        model = self._host.active()
        return model is not None and model.manifest.input != spec

    def _step(self, inputs: Sequence[Input], spec: ImageInput | VectorInput) -> None:
        if inputs:
            self._consume(inputs, spec)
        else:
            self._stop.wait(self._pace.idle_wait_s)
            if self._report_is_due():
                self._commit([], self._tally, report=True)
        self._sample()

    def _consume(self, inputs: Sequence[Input], spec: ImageInput | VectorInput) -> None:
        batch, passed, reasons = _validate(inputs, spec)
        records: list[Record] = []
        for answered in self._answerer.answer(spec.tensor, batch) if passed else []:
            rows = passed[answered.start : answered.stop]
            if answered.inference is None:
                reasons += [answered.reason or "unanswered"] * len(rows)
                continue
            part = batch[answered.start : answered.stop]
            numbers = [self._tally.inputs + row for row in rows]
            records += self._recorder.record(answered.inference, part, [inputs[row] for row in rows], numbers, self._clock.monotonic_s())
        counted = self._tally.plus(len(inputs), reasons)
        closed = any(isinstance(record, SketchWindow) for record in records)
        self._commit(records, counted, cursor=inputs[-1].cursor, report=closed or self._report_is_due())

    def _sample(self) -> None:
        asked, now_s = self._campaign, self._clock.monotonic_s()
        if asked != self._considered:
            self._considered = asked
            self._begin(None if asked is None or self._store.mark(CAMPAIGN_MARK) == asked.id else asked, now_s)
        campaign, chosen = self._sampler.campaign, self._sampler.due(now_s, self._observation.exhausted)
        if campaign is not None and chosen is not None:
            records = records_of(campaign, chosen, self._sampler.too_large, self._clock.now())
            self._commit(records, self._tally, marks={CAMPAIGN_MARK: campaign.id})
            self._begin(None, now_s)

    def _begin(self, campaign: SamplingCampaign | None, now_s: float) -> None:
        self._sampler.begin(campaign, now_s)
        self._observe(campaign=campaign.id if campaign else None)

    def _report_is_due(self) -> bool:
        since_s = self._unreported_since_s
        return since_s is not None and self._clock.monotonic_s() - since_s >= self._pace.report_s

    def _commit(
        self,
        records: list[Record],
        counted: tally.Tally,
        *,
        cursor: str | None = None,
        marks: dict[str, str] | None = None,
        report: bool = False,
    ) -> None:
        """Append, again and again while the store says Retry; the counters move only with the commit."""
        if report and counted.unreported:
            records = [*records, Event(at=self._clock.now(), kind="input.refused", detail=dict(counted.unreported))]
            counted = counted.reported()
        self._append(records, cursor, {tally.MARK: tally.to_mark(counted), **(marks or {})})
        self._tally = counted
        if not counted.unreported:
            self._unreported_since_s = None
        elif self._unreported_since_s is None:
            self._unreported_since_s = self._clock.monotonic_s()
        self._observe(inputs=counted.inputs, refused=counted.refused)

    def _append(self, records: Sequence[Record], cursor: str | None, marks: dict[str, str]) -> None:
        repeated = 0
        while True:
            try:
                return self._store.append(records, cursor=cursor, marks=marks)
            except Retry:
                self._pause(repeated)
                repeated += 1

    def _note_failure(self, code: str) -> None:
        """Committed at once, between two batches' commits, so that a worker that never comes back is seen; that it still does not is told once."""
        told, self._unavailable = self._unavailable, code == "worker-unavailable"
        if code.startswith("worker-") and not (told and self._unavailable):
            self._commit([Event(at=self._clock.now(), kind="worker.crashed", detail={"code": code})], self._tally)

    def _observe(self, **changes: object) -> None:
        self._observation = replace(self._observation, **changes)

    def _pause(self, repeated: int) -> None:
        if self._stop.wait(min(self._pace.retry_s * 2 ** min(repeated, 10), self._pace.max_retry_s)):
            raise _Stopped


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


def _validate(inputs: Sequence[Input], spec: ImageInput | VectorInput) -> tuple[np.ndarray, list[int], list[str]]:
    """The batch for the model, which inputs it holds, and the reasons of the others."""
    readable = [row for row, taken in enumerate(inputs) if taken.values is not None]
    reasons = [taken.refusal or "unreadable" for taken in inputs if taken.values is None]
    batch, verdicts = validation.split([inputs[row].values for row in readable], spec)
    passed = [row for row, verdict in zip(readable, verdicts, strict=True) if verdict is None]
    return batch, passed, reasons + [verdict for verdict in verdicts if verdict is not None]
