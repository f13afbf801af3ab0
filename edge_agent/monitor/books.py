"""The pipeline's accounts: what was answered, refused and sampled, committed together with the source's cursor, once."""

import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from edge_agent.inference.answering import Answered
from edge_agent.inference.validation import Batch
from edge_agent.monitor import tally
from edge_agent.monitor.recorder import Recorder
from edge_agent.monitor.sampling import Sampler, records_of
from edge_agent.monitor.served import Served, batches_of
from edge_agent.ports import Clock, Sink, Store
from fleet_contract.messages import Event, Follow, Record, Result, SketchWindow
from fleet_contract.order import SamplingCampaign

CAMPAIGN_MARK = "campaign"
ORIGIN_MARK = "source"
DISK_SLOW = "disk-slow"


@dataclass(frozen=True)
class Manners:
    """Refusals are told at the latest `report_s` after the first. A campaign closes early when no input comes for `sampling_idle_s` and there are
    as many as it wants, or for `sampling_patience_s`. Requests of local applications that come within `gather_s` are committed together."""

    report_s: float = 10.0
    sampling_idle_s: float = 10.0
    sampling_patience_s: float = 60.0
    gather_s: float = 0.1


class Books:
    """Thread-safe. Nothing here waits for the disk, unless the store can take no more and what it should take is kept elsewhere meanwhile: inputs
    that can be read again, requests in their tray. Other records are dropped then, and counted (`disk-slow`)."""

    def __init__(
        self, store: Store, clock: Clock, manners: Manners, pause: Callable[[int], None], sinks: Sequence[Sink] = (), origin: str = ""
    ) -> None:
        """`pause(n)` waits before the n-th repetition in a row and may raise to give up. `origin` tells the batches' source from others."""
        self._store = store
        self._clock = clock
        self._manners = manners
        self._pause = pause
        self._sinks = sinks
        self._origin = origin
        self._is_marked = store.mark(ORIGIN_MARK) == origin
        self._lock = threading.Lock()
        self._sampler = Sampler(manners.sampling_idle_s, manners.sampling_patience_s)
        self._recorder = Recorder(self._sampler)
        self._served_recorder = Recorder(self._sampler)
        self._considered: SamplingCampaign | None = None
        self._unavailable = False
        self._unreported_since_s: float | None = None
        self.tally = tally.from_mark(store.mark(tally.MARK))

    @property
    def campaign(self) -> str | None:
        """The one that is being sampled for."""
        campaign = self._sampler.campaign
        return campaign.id if campaign else None

    @property
    def is_of_other_source(self) -> bool:
        """Whether the committed cursor is known to be one of another source."""
        return self._store.mark(ORIGIN_MARK) not in (None, self._origin)

    def cursor(self) -> str | None:
        """Behind what was committed of this source. A cursor that was committed without an origin is taken for its own."""
        return None if self.is_of_other_source else self._store.cursor()

    def enter(self, batch: Batch, answered: Sequence[Answered], losses: Mapping[str, int]) -> None:
        """The records of a batch, and the cursor behind it. `losses` are inputs that never came."""
        with self._lock:
            records, refused = self._records(batch, answered)
            counted = self._count(len(batch.inputs), refused, losses)
            cursor = batch.inputs[-1].cursor
            marks = {} if cursor is None or self._is_marked else {ORIGIN_MARK: self._origin}
            self._commit(records, counted, cursor=cursor, marks=marks, report=self._report_is_due(records), waits=cursor is not None)
            self._is_marked = self._is_marked or bool(marks)
        self._emit(records)

    def enter_served(self, served: Sequence[Served], losses: Mapping[str, int]) -> None:
        """The records of answered requests, whose windows are not the source's: two streams that are healthy may not be as one. The first may be
        followed. `losses` are inputs that were not answered, or are not recorded."""
        with self._lock:
            first, records = self.tally.inputs, []
            now, now_s = self._clock.now(), self._clock.monotonic_s()
            for part in batches_of(served, first, self._store.epoch, lambda at_s: now - timedelta(seconds=now_s - at_s)):
                numbers = range(first, first + len(part.inputs))
                records += self._served_recorder.record(part.inference, part.values, part.inputs, numbers, now_s, part.latencies_us)
                first = numbers.stop
            counted = self._count(first - self.tally.inputs, {}, losses)
            self._commit(records, counted, report=self._report_is_due(records), waits=True, follow=served[0].follow if served else None)
        self._emit(records)

    def rest(self, losses: Mapping[str, int]) -> None:
        """What is due while no input comes."""
        with self._lock:
            if losses:
                self._commit([], self._count(0, {}, losses))
            if self._report_is_due():
                self._commit([], self.tally, report=True)

    def sample(self, asked: SamplingCampaign | None, *, exhausted: bool) -> None:
        """Work on the newest order's campaign. One that this store has finished is not begun again."""
        with self._lock:
            now_s = self._clock.monotonic_s()
            if asked != self._considered:
                self._considered = asked
                self._sampler.begin(None if asked is None or self._store.mark(CAMPAIGN_MARK) == asked.id else asked, now_s)
            campaign, chosen = self._sampler.campaign, self._sampler.due(now_s, exhausted)
            if campaign is not None and chosen is not None:
                records = records_of(campaign, chosen, self._sampler.too_large, self._clock.now())
                if self._store.submit(records, marks={CAMPAIGN_MARK: campaign.id}):
                    self._sampler.begin(None, now_s)

    def note_failure(self, code: str) -> None:
        """Committed at once, between two batches' commits, so that a worker that never comes back is seen; that it still does not is told once."""
        with self._lock:
            told, self._unavailable = self._unavailable, code == "worker-unavailable"
            if code.startswith("worker-") and not (told and self._unavailable):
                self._commit([Event(at=self._clock.now(), kind="worker.crashed", detail={"code": code})], self.tally)

    def _emit(self, records: Sequence[Record]) -> None:
        results = [record for record in records if isinstance(record, Result)]
        for sink in self._sinks if results else ():
            sink.emit(results)

    def _records(self, batch: Batch, answered: Sequence[Answered]) -> tuple[list[Record], Counter[str]]:
        records, refused = [], Counter(batch.refused)
        for part in answered:
            rows = batch.passed[part.start : part.stop]
            if part.inference is None:
                refused[part.reason or "unanswered"] += len(rows)
                continue
            numbers = [self.tally.inputs + row for row in rows]
            values, inputs = batch.values[part.start : part.stop], [batch.inputs[row] for row in rows]
            records += self._recorder.record(part.inference, values, inputs, numbers, self._clock.monotonic_s())
        return records, refused

    def _count(self, inputs: int, refused: Mapping[str, int], losses: Mapping[str, int]) -> tally.Tally:
        """Lost inputs come behind those of the batch, whose ordinals are given already."""
        return self.tally.plus(inputs, refused).plus(sum(losses.values()), losses)

    def _report_is_due(self, records: Sequence[Record] = ()) -> bool:
        """With each window, too."""
        since_s = self._unreported_since_s
        waited = since_s is not None and self._clock.monotonic_s() - since_s >= self._manners.report_s
        return waited or any(isinstance(record, SketchWindow) for record in records)

    def _commit(
        self,
        records: list[Record],
        counted: tally.Tally,
        *,
        cursor: str | None = None,
        marks: dict[str, str] | None = None,
        report: bool = False,
        waits: bool = False,
        follow: Follow | None = None,
    ) -> None:
        """`waits`: again and again until the store takes it; the counters move only then."""
        if report and counted.unreported:
            records = [*records, Event(at=self._clock.now(), kind="input.refused", detail=dict(counted.unreported))]
            counted = counted.reported()
        notes = {tally.MARK: tally.to_mark(counted), **(marks or {})}
        repeated = 0
        while not (taken := self._store.submit(records, cursor=cursor, marks=notes, follow=follow)) and waits:
            self._pause(repeated)
            repeated += 1
        if not taken:
            self._store.drop(records, DISK_SLOW)
        self.tally = counted
        if not counted.unreported:
            self._unreported_since_s = None
        elif self._unreported_since_s is None:
            self._unreported_since_s = self._clock.monotonic_s()
