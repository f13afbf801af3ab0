"""Runs models in worker processes: proves bundles, swaps without dropping a request, and survives its workers."""

import logging
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from edge_agent.errors import Reject, Retry
from edge_agent.inference import memory, planning, proving, selection
from edge_agent.inference.child import Child, ChildLost, Deadlines, Wanted
from edge_agent.inference.conduct import ConductBook
from edge_agent.inference.opening import Opened, open_bundle, read_model
from edge_agent.ports import ActiveModel, Clock, Conduct, Inference, Measurement, Proof, Tensors
from firmware_profiles.catalog import Backend, Profile
from fleet_contract.bundle import Bundle
from fleet_contract.manifest import Manifest, Variant
from fleet_contract.signature import inputs_of

log = logging.getLogger(__name__)

_LOST = {"child-crash": "worker-crashed", "child-timeout": "worker-timeout"}


@dataclass(frozen=True)
class WorkerCounts:
    """Since this process began."""

    started: int = 0
    crashed: int = 0
    timed_out: int = 0


@dataclass(frozen=True)
class _Serving:
    """The model file stays on the disk: a worker that is started again gets it from there, checked again."""

    model: ActiveModel
    wanted: Wanted
    bundle: Bundle
    variant: Variant
    known: proving.Exam

    def read(self) -> bytes:
        """Raises Retry: the bundle was right when it was opened, so the disk is at fault."""
        try:
            return read_model(self.bundle, self.variant)
        except Reject as error:
            raise Retry(f"the disk does not hold the model any more: {error}", code="bad-digest") from error

    def granted_s(self, rows: int) -> float:
        return rows * self.model.manifest.limits.latency_ms / 1000


class InferenceHost:
    """Implements ports.Host. `prove` and `activate` may run on one thread while `infer` runs on another.

    A new bundle gets a worker beside the one that serves. Where memory does not suffice for both, the one that serves gives way meanwhile:
    requests are told that there is no model, and the next one after that starts its worker again.
    """

    def __init__(
        self,
        profile: Profile,
        clock: Clock,
        deadlines: Deadlines = Deadlines(),
        *,
        available_bytes: Callable[[], int | None] = lambda: None,
        lacks: Callable[[Backend], str | None] = partial(selection.lacking, root=Path("/")),
    ) -> None:
        """`available_bytes` is the memory that may still be taken; None: enough. `lacks` says what this board misses of a backend."""
        self._lacks = lacks
        self._available_bytes = available_bytes
        self._profile = profile
        self._clock = clock
        self._deadlines = deadlines
        self._starter = ThreadPoolExecutor(1, thread_name_prefix="worker-starter")
        self._lock = threading.Lock()
        self._serving: _Serving | None = None
        self._child: Child | None = None
        self._resting = False
        self._proofs: dict[str, Proof] = {}
        self._conducts = ConductBook()
        self._started = self._crashed = self._timed_out = 0

    def prove(self, bundle: Bundle) -> Proof:
        return self._prove(open_bundle(bundle))

    def activate(self, bundle: Bundle) -> None:
        """A bundle that this process has not proven yet (after a restart) is proven first, so prove's Rejects may come from here."""
        if self._is_active(bundle):
            return
        opened = open_bundle(bundle)
        proof = self._proofs.get(opened.sha256) or self._prove(opened)
        serving = self._plan(opened, proof)
        with self._room(bundle, serving.variant):
            try:
                child = self._launch(serving)
            except ChildLost as error:
                raise Reject(f"variant {proof.chosen.variant!r}: {error}", code=error.code) from error
            self._conducts.open(opened.sha256)
            with self._lock:
                old, self._child, self._serving = self._child, child, serving
        if old is not None:
            old.close()

    def deactivate(self) -> None:
        with self._lock:
            child, self._child, self._serving = self._child, None, None
        if child is not None:
            child.close()

    def active(self) -> ActiveModel | None:
        serving = self._serving
        return None if serving is None else serving.model

    def infer(self, inputs: Tensors, *, timeout_s: float | None = None) -> Inference:
        with self._lock:
            serving = self._current()
            manifest = serving.model.manifest
            rows = _rows(inputs, manifest)
            began_s = self._clock.monotonic_s()
            outputs = self._run(serving, planning.complete(manifest, inputs), rows)
            latency_us = round(1e6 * (self._clock.monotonic_s() - began_s))
        self._conducts.answered(serving.model.sha256, rows, latency_us, 1e6 * serving.granted_s(rows))
        return Inference(serving.model.sha256, manifest, outputs, latency_us, serving.model.reference, serving.model.priors)

    def examine(self) -> None:
        with self._lock:
            serving = self._current()
            answers = proving.answer_all(serving.known, lambda inputs, rows: self._run(serving, inputs, rows))
        serving.known.judge(answers)

    def conduct(self, sha256: str) -> Conduct:
        return self._conducts.read(sha256)

    def close(self) -> None:
        self.deactivate()
        self._starter.shutdown()

    def counts(self) -> WorkerCounts:
        return WorkerCounts(self._started, self._crashed, self._timed_out)

    @property
    def worker_pid(self) -> int | None:
        child = self._child
        return None if child is None else child.pid

    def _prove(self, opened: Opened) -> Proof:
        candidates = proving.candidates(opened.manifest, self._profile)
        found = selection.select(candidates, partial(self._try, opened), self._lacks, self._clock)
        proof = Proof(opened.sha256, found.chosen.measurement, found.measurements, found.chosen.walls)
        self._proofs[opened.sha256] = proof
        return proof

    def _try(self, opened: Opened, candidate: proving.Candidate) -> tuple[Measurement, tuple[str, ...]]:
        exam = proving.exam_of(opened.known, candidate, self._profile, opened.manifest)
        with self._room(opened.bundle, candidate.variant):
            child = self._start(self._wanted(opened.manifest, candidate))
            try:
                read = partial(read_model, opened.bundle, candidate.variant)
                return proving.try_variant(child, candidate, read, exam, opened.manifest.limits, self._clock), child.walls
            finally:
                child.close()

    @contextmanager
    def _room(self, bundle: Bundle, variant: Variant) -> Iterator[None]:
        """For one more worker with this model."""
        needed_bytes = memory.needed_bytes(bundle.manifest.entries[variant.entry].length)
        available_bytes = self._available_bytes()
        if self._serving is None or available_bytes is None or available_bytes >= needed_bytes:
            yield
            return
        log.info("the worker that serves gives way: %d bytes of memory are left, another would need %d", available_bytes, needed_bytes)
        with self._lock:
            child, self._child, self._resting = self._child, None, True
        try:
            if child is not None:
                child.close()
            yield
        finally:
            with self._lock:
                self._resting = False

    def _is_active(self, bundle: Bundle) -> bool:
        """It may have come again, to another slot: from now on its worker is started from there."""
        with self._lock:
            serving = self._serving
            if serving is None or serving.model.sha256 != bundle.sha256:
                return False
            self._serving = replace(serving, bundle=bundle)
            return True

    def _plan(self, opened: Opened, proof: Proof) -> _Serving:
        candidate = self._candidate(opened.manifest, proof.chosen)
        return _Serving(
            model=ActiveModel(opened.sha256, opened.manifest, opened.reference, opened.priors),
            wanted=self._wanted(opened.manifest, candidate),
            bundle=opened.bundle,
            variant=candidate.variant,
            known=proving.exam_of(opened.known, candidate, self._profile, opened.manifest),
        )

    def _candidate(self, manifest: Manifest, chosen: Measurement) -> proving.Candidate:
        found = proving.candidates(manifest, self._profile)
        return next(c for c in found if (c.variant.name, c.backend.id) == (chosen.variant, chosen.backend))

    def _wanted(self, manifest: Manifest, candidate: proving.Candidate) -> Wanted:
        worker = self._profile.worker
        return Wanted(
            backend=candidate.backend,
            plan=planning.plan_of(manifest, candidate.variant, candidate.backend, worker.threads),
            memory_mb=min(manifest.limits.memory_mb, worker.memory_mb),
        )

    def _start(self, wanted: Wanted) -> Child:
        self._started += 1
        return Child(wanted, self._clock, self._starter, self._deadlines)

    def _launch(self, serving: _Serving) -> Child:
        """A worker that has the model loaded and warm. Raises Reject, Retry or ChildLost."""
        child = self._start(serving.wanted)
        try:
            child.load(serving.read)
            exam = serving.known
            child.infer(planning.complete(exam.manifest, exam.row(0)), serving.granted_s(1), exam.max_bytes(1))
        except (Reject, Retry):
            child.close()
            raise
        return child

    def _current(self) -> _Serving:
        """Of the lock's holder."""
        if self._serving is None or self._resting:
            raise Retry("there is no model just now", code="no-model")
        return self._serving

    def _run(self, serving: _Serving, inputs: Tensors, rows: int) -> Tensors:
        """Finite answers of the right shape, or a failure that the bundle's conduct shows. Of the lock's holder."""
        try:
            child = self._child = self._child or self._launch(serving)
        except (Reject, ChildLost) as error:
            self._conducts.failed(serving.model.sha256, error.code)
            raise Retry(f"the worker does not start: {error}", code="worker-unavailable") from error
        try:
            return _checked(child.infer(inputs, serving.granted_s(rows), serving.known.max_bytes(rows)), serving, rows)
        except ChildLost as error:
            self._child = None
            self._crashed += error.code == "child-crash"
            self._timed_out += error.code == "child-timeout"
            self._conducts.failed(serving.model.sha256, error.code)
            raise Retry(str(error), code=_LOST[error.code]) from error
        except Reject as error:
            self._conducts.failed(serving.model.sha256, error.code)
            if error.code == "memory":  # what leaks begins anew
                self._child = None
                child.close()
            raise


def _rows(inputs: Tensors, manifest: Manifest) -> int:
    """How many rows the inputs have. Raises Retry when they are not those of this model."""
    for spec in inputs_of(manifest.input):
        given = inputs.get(spec.name)
        if given is None or not proving.fits(given, spec.shape):
            raise Retry(f"the batch does not fit the model's input {spec.name!r} {spec.shape}", code="model-swapped")
    return len(inputs[inputs_of(manifest.input)[0].name])


def _checked(outputs: Tensors, serving: _Serving, rows: int) -> Tensors:
    for name, known in serving.known.answers.items():
        given, wanted = outputs[name], (rows, *known.shape[1:])
        if given.shape != wanted:
            raise Reject(f"the answer has shape {given.shape}, not {wanted}", code="wrong-answer")
        if given.dtype.kind == "f" and not np.isfinite(given).all():
            raise Reject("the model's answer is not finite", code="non-finite")
    return outputs
