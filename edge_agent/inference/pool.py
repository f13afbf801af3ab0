"""The workers of one bundle, and the requests that they answer: who asks first is served first, and a lost worker costs one request."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace

from edge_agent.errors import Reject, Retry
from edge_agent.inference import proving
from edge_agent.inference.admission import Admission
from edge_agent.inference.child import Child, ChildLost, Late, Wanted
from edge_agent.inference.conduct import ConductBook
from edge_agent.inference.expectation import Expectation
from edge_agent.inference.opening import read_model
from edge_agent.ports import ActiveModel, Clock, Inference, Tensors
from fleet_contract.bundle import Bundle
from fleet_contract.manifest import Variant

MAX_WAITING = 64
_CALLERS_FAULT = ("bad-input", "too-large")
_LOST = {"child-crash": "worker-crashed", "child-timeout": "worker-timeout"}


@dataclass(frozen=True)
class Served:
    """A proven bundle. The model file stays on the disk: a worker that is started again gets it from there, checked again."""

    model: ActiveModel
    wanted: Wanted
    bundle: Bundle
    variant: Variant
    known: proving.Exam
    expected: Expectation
    row_s: float

    def read(self) -> bytes:
        """Raises Retry: the bundle was right when it was opened, so the disk is at fault."""
        try:
            return read_model(self.bundle, self.variant)
        except Reject as error:
            raise Retry(f"the disk does not hold the model any more: {error}", code="bad-digest") from error

    def granted_s(self, rows: int) -> float:
        return rows * self.row_s


class _UnderWay:
    """A request whose holder has passed the slot on once the worker had it. `done` is held until the answer is heard, or the worker lost.
    `has_next`: somebody has taken the slot meanwhile."""

    __slots__ = ("child", "done", "has_next")

    def __init__(self, child: Child) -> None:
        self.child = child
        self.has_next = False
        self.done = threading.Lock()
        self.done.acquire()


@dataclass(eq=False)
class _Slot:
    """Of its lease's holder. `on_trial`: whether the bundle answers for what the child was asked last, which it may owe yet."""

    child: Child | None = None
    on_trial: bool = True
    under_way: _UnderWay | None = None


class Pool:
    """Any thread. A pool that was closed starts its workers again once it is opened and asked."""

    def __init__(self, served: Served, count: int, start: Callable[[Wanted], Child], conducts: ConductBook, clock: Clock) -> None:
        """`start` gives a worker without a model."""
        self.served = served
        self._start = start
        self._conducts = conducts
        self._clock = clock
        self._slots = [_Slot() for _ in range(count)]
        self._admission = Admission(self._slots, MAX_WAITING)
        self._is_crowded = False

    @property
    def pids(self) -> list[int]:
        return [child.pid for child in (slot.child for slot in self._slots) if child is not None]

    @property
    def waiting(self) -> int:
        return self._admission.waiting

    def launch(self) -> None:
        """All workers, loaded and warm, or none. Before the first request. Raises Reject, Retry or ChildLost."""
        try:
            for slot in self._slots:
                slot.child = self._launch()
        except (Reject, Retry, ChildLost):
            self.close()
            raise

    def move(self, bundle: Bundle) -> None:
        """The same bundle lies elsewhere: from now on workers are started from there."""
        self.served = replace(self.served, bundle=bundle)

    def infer(self, inputs: Tensors, timeout_s: float | None, on_trial: bool) -> Inference:
        """What is not `on_trial` is not held against the bundle, nor counted for it. Raises as ports.Inferring.infer does, but for no-model; or Shut."""
        served = self.served
        rows = served.expected.rows(inputs)
        end_s = None if timeout_s is None else self._clock.monotonic_s() + timeout_s
        given = served.expected.complete(inputs)
        slot = self._admission.acquire(timeout_s)
        if self._is_crowded and end_s is None:
            outputs, began_s = self._ask_patiently(slot, given, rows, on_trial)
        else:
            outputs, began_s = self._ask_in_time(slot, given, rows, end_s, on_trial)
        latency_us = round(1e6 * (self._clock.monotonic_s() - began_s))
        model = served.model
        if on_trial:
            self._conducts.answered(model.sha256, rows, latency_us, 1e6 * served.granted_s(rows))
        return Inference(model.sha256, model.manifest, outputs, latency_us, model.reference, model.priors)

    def examine(self) -> None:
        """Raises Reject as proving does, Retry as `infer` does, or Shut."""
        slot = self._admission.acquire()
        try:
            self._wait_turn(slot, None)
            answers = proving.answer_all(self.served.known, lambda inputs, rows: self._ask(slot, inputs, rows, None))
        finally:
            self._release(slot)
        self.served.known.judge(answers)

    def close(self) -> None:
        """Let nobody in any more, serve those who are, and end the workers."""
        self._admission.shut()
        for slot in self._slots:
            self._wait_turn(slot, None)
            if slot.child is not None:
                slot.child.close()
                slot.child = None

    def open(self) -> None:
        self._admission.open()

    def _release(self, slot: _Slot) -> None:
        """Where somebody waits already, slots are passed on early from now on."""
        if self._admission.waiting:
            self._is_crowded = True
        self._admission.release(slot, last=slot.child is None)

    def _ask_patiently(self, slot: _Slot, inputs: Tensors, rows: int, on_trial: bool) -> tuple[Tensors, float]:
        """Gives the slot to the next one as soon as the worker has the request, so that the worker finds the next when it has answered this.
        The answers, and when the worker began."""
        served = self.served
        max_bytes = served.expected.max_bytes(rows)
        try:
            child, began_s = self._begin(slot, inputs, max_bytes, on_trial)
            under_way = slot.under_way = _UnderWay(child)
        finally:
            self._admission.release(slot, last=True)
        try:
            outputs = child.hear(served.granted_s(rows), max_bytes, began_s)
        except (ChildLost, Reject) as error:
            raise self._blame(slot, child, error, on_trial) from error
        finally:
            self._is_crowded = under_way.has_next or self._admission.waiting > 0
            under_way.done.release()
        self._check(outputs, rows, on_trial)
        return outputs, began_s

    def _begin(self, slot: _Slot, inputs: Tensors, max_bytes: int, on_trial: bool) -> tuple[Child, float]:
        """The worker that has the request now and nothing before it, and since when. One that was lost meanwhile, over the request before, is asked
        anew."""
        before = slot.under_way
        if before is not None:
            before.has_next = True
        is_asked = before is not None and before.done.locked() and before.child.ask_ahead(inputs, max_bytes)
        self._wait_turn(slot, None)
        if is_asked and slot.child is before.child:
            return before.child, self._clock.monotonic_s()
        child = self._ready(slot, None)
        began_s = self._clock.monotonic_s()
        try:
            child.ask(inputs, max_bytes)
        except (ChildLost, Reject) as error:
            raise self._blame(slot, child, error, on_trial) from error
        return child, began_s

    def _wait_turn(self, slot: _Slot, end_s: float | None) -> None:
        """Until the answer to what is under way is heard. Raises Retry (deadline)."""
        if slot.under_way is None:
            return
        left_s = self._left_s(end_s)
        if not slot.under_way.done.acquire(timeout=-1 if left_s is None else left_s):
            raise Retry("the worker was not free in time", code="deadline")
        slot.under_way = None

    def _ask_in_time(self, slot: _Slot, inputs: Tensors, rows: int, end_s: float | None, on_trial: bool) -> tuple[Tensors, float]:
        try:
            if slot.under_way is not None:
                self._wait_turn(slot, end_s)
            began_s = self._clock.monotonic_s()
            return self._ask(slot, inputs, rows, end_s, on_trial), began_s
        finally:
            self._release(slot)

    def _ask(self, slot: _Slot, inputs: Tensors, rows: int, end_s: float | None, on_trial: bool = True) -> Tensors:
        served = self.served
        child = slot.child
        if child is None or child.is_owing:
            child = self._ready(slot, end_s)
        slot.on_trial = on_trial
        try:
            outputs = child.infer(
                inputs, served.granted_s(rows), served.expected.max_bytes(rows), None if end_s is None else self._left_s(end_s)
            )
        except Late as error:
            raise Retry(str(error), code="deadline") from error
        except (ChildLost, Reject) as error:
            raise self._blame(slot, child, error, on_trial) from error
        self._check(outputs, rows, on_trial)
        return outputs

    def _check(self, outputs: Tensors, rows: int, on_trial: bool) -> None:
        try:
            self.served.expected.check(outputs, rows)
        except Reject as error:
            self._note(error.code, on_trial)
            raise

    def _blame(self, slot: _Slot, child: Child, error: ChildLost | Reject, on_trial: bool) -> Retry | Reject:
        """What the caller is told. What leaks memory begins anew."""
        if isinstance(error, ChildLost):
            slot.child = None
            self._note(error.code, on_trial)
            return Retry(str(error), code=_LOST[error.code])
        self._note(error.code, on_trial and error.code not in _CALLERS_FAULT)
        if error.code == "memory":
            slot.child = None
            child.close()
        return error

    def _ready(self, slot: _Slot, end_s: float | None) -> Child:
        """A worker that owes nothing. One that is lost over what it owed to another is replaced at once."""
        if slot.child is not None and slot.child.is_owing:
            try:
                slot.child.settle(self._left_s(end_s))
            except Late as error:
                raise Retry(str(error), code="deadline") from error
            except ChildLost as error:
                slot.child = None
                self._note(error.code, slot.on_trial)
        if slot.child is None:
            slot.child = self._relaunch()
        return slot.child

    def _relaunch(self) -> Child:
        try:
            return self._launch()
        except (Reject, ChildLost) as error:
            self._note(error.code, on_trial=True)
            raise Retry(f"the worker does not start: {error}", code="worker-unavailable") from error

    def _note(self, code: str, on_trial: bool) -> None:
        self._conducts.failed(self.served.model.sha256 if on_trial else None, code)

    def _launch(self) -> Child:
        served = self.served
        child = self._start(served.wanted)
        try:
            child.load(served.read)
            warm = served.expected.complete(served.known.row(0))
            child.infer(warm, served.granted_s(1), served.expected.max_bytes(1))
        except (Reject, Retry):
            child.close()
            raise
        return child

    def _left_s(self, end_s: float | None) -> float | None:
        """Raises Retry (deadline) when nothing is left."""
        if end_s is None:
            return None
        left_s = end_s - self._clock.monotonic_s()
        if left_s <= 0:
            raise Retry("the deadline has passed", code="deadline")
        return left_s
