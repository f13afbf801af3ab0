"""Runs models in worker processes: proves bundles, swaps without dropping a request, and survives its workers."""

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from edge_agent.errors import Reject, Retry
from edge_agent.inference import proving
from edge_agent.inference.child import Child, ChildLost, Deadlines, Wanted
from edge_agent.inference.validation import shape_of
from edge_agent.ports import ActiveModel, Clock, Inference, Proof
from firmware_profiles.catalog import Profile
from fleet_contract import features
from fleet_contract.bundle import Bundle, KnownAnswers, Manifest
from fleet_contract.errors import ContractError
from fleet_contract.messages import SketchWindow, encode_record
from fleet_contract.sketch import Reference, Sketcher, decode_reference

_LOST = {"child-crash": "worker-crashed", "child-timeout": "worker-timeout"}


@dataclass(frozen=True)
class WorkerCounts:
    """Since this process began."""

    started: int = 0
    crashed: int = 0
    timed_out: int = 0


@dataclass(frozen=True)
class _Opened:
    """A checked bundle; the supervisor parses its tables, never its models."""

    sha256: str
    manifest: Manifest
    reference: Reference
    known: KnownAnswers
    models: dict[str, bytes]


@dataclass(frozen=True)
class _Serving:
    model: ActiveModel
    wanted: Wanted
    file: bytes
    warm: np.ndarray


class InferenceHost:
    """Implements ports.Host. `prove` and `activate` may run on one thread while `infer` runs on another."""

    def __init__(self, profile: Profile, clock: Clock, deadlines: Deadlines = Deadlines()) -> None:
        self._profile = profile
        self._clock = clock
        self._deadlines = deadlines
        self._starter = ThreadPoolExecutor(1, thread_name_prefix="worker-starter")
        self._lock = threading.Lock()
        self._serving: _Serving | None = None
        self._child: Child | None = None
        self._proofs: dict[str, Proof] = {}
        self._started = self._crashed = self._timed_out = 0

    def prove(self, path: Path) -> Proof:
        return self._prove(_open(path))

    def activate(self, path: Path) -> None:
        """A bundle that this process has not proven yet (after a restart) is proven first, so prove's Rejects may come from here."""
        opened = _open(path)
        current = self.active()
        if current is not None and current.sha256 == opened.sha256:
            return
        proof = self._proofs.get(opened.sha256) or self._prove(opened)
        serving = self._plan(opened, proof)
        try:
            child = self._launch(serving)
        except ChildLost as error:
            raise Reject(f"variant {proof.variant!r}: {error}", code=error.code) from error
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

    def infer(self, batch: np.ndarray) -> Inference:
        with self._lock:
            serving = self._serving
            if serving is None:
                raise Retry("there is no model yet", code="no-model")
            manifest = serving.model.manifest
            if batch.shape[1:] != shape_of(manifest.input):
                raise Retry(f"the batch's rows are {batch.shape[1:]}, the model wants {shape_of(manifest.input)}", code="model-swapped")
            began_s = self._clock.monotonic_s()
            outputs = self._run(serving, batch)
            latency_us = round(1e6 * (self._clock.monotonic_s() - began_s))
        if not np.isfinite(outputs).all():
            raise Reject("the model's answer is not finite", code="non-finite")
        return Inference(serving.model.sha256, manifest, outputs, latency_us, serving.model.reference)

    def close(self) -> None:
        self.deactivate()
        self._starter.shutdown()

    def counts(self) -> WorkerCounts:
        return WorkerCounts(self._started, self._crashed, self._timed_out)

    @property
    def worker_pid(self) -> int | None:
        child = self._child
        return None if child is None else child.pid

    def _prove(self, opened: _Opened) -> Proof:
        trials, refusals = [], []
        for candidate in proving.candidates(opened.manifest, self._profile):
            try:
                trials.append(self._try(opened, candidate))
            except Reject as error:
                refusals.append(error)
            except ChildLost as error:
                refusals.append(Reject(f"variant {candidate.variant.name!r}: {error}", code=error.code))
        if not trials:
            raise refusals[0]
        best = proving.choose(trials)
        proof = Proof(
            sha256=opened.sha256,
            variant=best.candidate.variant.name,
            backend=best.candidate.backend,
            latency_p50_us=best.latency_p50_us,
            latency_max_us=best.latency_max_us,
            load_ms=best.load_ms,
            max_difference=best.max_difference,
        )
        self._proofs[opened.sha256] = proof
        return proof

    def _try(self, opened: _Opened, candidate: proving.Candidate) -> proving.Trial:
        child = self._start(self._wanted(opened.manifest, candidate.variant.runtime, candidate.provider))
        try:
            model = opened.models[candidate.variant.entry]
            return proving.try_variant(child, candidate, model, opened.manifest, opened.known, self._clock)
        finally:
            child.close()

    def _plan(self, opened: _Opened, proof: Proof) -> _Serving:
        variant = next(v for v in opened.manifest.variants if v.name == proof.variant)
        runtime, _, provider = proof.backend.partition(":")
        return _Serving(
            model=ActiveModel(opened.sha256, opened.manifest, opened.reference),
            wanted=self._wanted(opened.manifest, runtime, provider),
            file=opened.models[variant.entry],
            warm=proving.inputs_of(opened.known, opened.manifest)[:1],
        )

    def _wanted(self, manifest: Manifest, runtime: str, provider: str) -> Wanted:
        return Wanted(
            runtime=runtime,
            provider=provider,
            input=manifest.input.tensor,
            output=manifest.output.tensor,
            threads=self._profile.threads,
            memory_mb=min(manifest.limits.memory_mb, self._profile.worker_memory_mb),
        )

    def _start(self, wanted: Wanted) -> Child:
        self._started += 1
        return Child(wanted, self._clock, self._starter, self._deadlines)

    def _launch(self, serving: _Serving) -> Child:
        """A worker that has the model loaded and warm. Raises Reject or ChildLost."""
        child = self._start(serving.wanted)
        try:
            child.load(serving.file)
            child.infer(serving.warm, self._granted_s(serving, 1), len(serving.model.manifest.output.classes))
        except Reject:
            child.close()
            raise
        return child

    def _run(self, serving: _Serving, batch: np.ndarray) -> np.ndarray:
        if self._child is None:
            try:
                self._child = self._launch(serving)
            except (Reject, ChildLost) as error:
                raise Retry(f"the worker does not start: {error}", code="worker-unavailable") from error
        wanted = (len(batch), len(serving.model.manifest.output.classes))
        try:
            outputs = self._child.infer(batch, self._granted_s(serving, len(batch)), wanted[0] * wanted[1])
        except ChildLost as error:
            self._child = None
            self._crashed += error.code == "child-crash"
            self._timed_out += error.code == "child-timeout"
            raise Retry(str(error), code=_LOST[error.code]) from error
        if outputs.shape != wanted:
            raise Reject(f"the answer has shape {outputs.shape}, not {wanted}", code="wrong-answer")
        return outputs

    @staticmethod
    def _granted_s(serving: _Serving, rows: int) -> float:
        return rows * serving.model.manifest.limits.latency_ms / 1000


def _open(path: Path) -> _Opened:
    """Raises Reject (bundle)."""
    try:
        bundle = Bundle(path)
        manifest = bundle.manifest
        reference = decode_reference(bundle.read(manifest.reference))
        known = bundle.known_answers()
        _check_grid(bundle, reference)
    except (ContractError, OSError) as error:
        raise Reject(f"the bundle cannot be opened: {error}", code="bundle") from error
    return _Opened(bundle.sha256, manifest, reference, known, {v.entry: bundle.read(v.entry) for v in manifest.variants})


def _check_grid(bundle: Bundle, reference: Reference) -> None:
    """What the agent could not sketch, or not send, is found before the bundle serves. Raises Reject, or TooLarge for a window that fits no record."""
    named = {("input", name) for name in features.input_names(bundle.manifest.input)} | {("output", name) for name in features.OUTPUT}
    unknown = [feature.name for feature in reference.grid.features if (feature.role, feature.name) not in named]
    if unknown:
        raise Reject(f"the reference follows features that this agent does not make: {', '.join(unknown)}", code="bundle")
    epoch = datetime.fromtimestamp(0, UTC)
    empty = Sketcher(reference.grid).sketch()
    encode_record(SketchWindow(start=epoch, end=epoch, bundle=bundle.sha256, first_input=2**53, inputs=2**32, sketch=empty))
