"""The workers of one bundle, and the requests that they answer: who asks first is served first, and a lost worker costs one request."""

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


@dataclass(eq=False)
class _Slot:
    """Of its lease's holder. `on_trial`: whether the bundle answers for what the child was asked last, which it may owe yet."""

    child: Child | None = None
    on_trial: bool = True


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
        slot = self._admission.acquire(timeout_s)
        try:
            began_s = self._clock.monotonic_s()
            outputs = self._ask(slot, served.expected.complete(inputs), rows, end_s, on_trial)
            latency_us = round(1e6 * (self._clock.monotonic_s() - began_s))
        finally:
            self._release(slot)
        model = served.model
        if on_trial:
            self._conducts.answered(model.sha256, rows, latency_us, 1e6 * served.granted_s(rows))
        return Inference(model.sha256, model.manifest, outputs, latency_us, model.reference, model.priors)

    def examine(self) -> None:
        """Raises Reject as proving does, Retry as `infer` does, or Shut."""
        slot = self._admission.acquire()
        try:
            answers = proving.answer_all(self.served.known, lambda inputs, rows: self._ask(slot, inputs, rows, None))
        finally:
            self._release(slot)
        self.served.known.judge(answers)

    def close(self) -> None:
        """Let nobody in any more, serve those who are, and end the workers."""
        self._admission.shut()
        for slot in self._slots:
            if slot.child is not None:
                slot.child.close()
                slot.child = None

    def open(self) -> None:
        self._admission.open()

    def _release(self, slot: _Slot) -> None:
        self._admission.release(slot, last=slot.child is None)

    def _ask(self, slot: _Slot, inputs: Tensors, rows: int, end_s: float | None, on_trial: bool = True) -> Tensors:
        served = self.served
        child = self._ready(slot, end_s)
        slot.on_trial = on_trial
        try:
            outputs = child.infer(inputs, served.granted_s(rows), served.expected.max_bytes(rows), self._left_s(end_s))
            served.expected.check(outputs, rows)
            return outputs
        except Late as error:
            raise Retry(str(error), code="deadline") from error
        except ChildLost as error:
            slot.child = None
            self._note(error.code, on_trial)
            raise Retry(str(error), code=_LOST[error.code]) from error
        except Reject as error:
            self._note(error.code, on_trial and error.code not in _CALLERS_FAULT)
            if error.code == "memory":  # what leaks begins anew
                child.close()
                slot.child = None
            raise

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
