"""Runs models in worker processes: proves bundles, swaps without dropping a request, and survives its workers."""

import logging
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

from edge_agent.errors import Reject, Retry
from edge_agent.inference import memory, planning, proving, selection
from edge_agent.inference.admission import Shut
from edge_agent.inference.child import Child, ChildLost, Deadlines, Wanted
from edge_agent.inference.conduct import ConductBook
from edge_agent.inference.expectation import expect
from edge_agent.inference.opening import Opened, open_bundle, read_model
from edge_agent.inference.pool import Pool, Served
from edge_agent.ports import ActiveModel, Choice, Clock, Conduct, Inference, Measurement, Proof, Tensors
from firmware_profiles.catalog import Backend, Profile
from fleet_contract.bundle import Bundle
from fleet_contract.manifest import Manifest, Variant

log = logging.getLogger(__name__)

_LOWEST_PRIORITY = 19
"""Of a worker that answers; its proof is measured at that of the board's profile, as everybody's is."""

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True)
class WorkerCounts:
    """Since this process began."""

    started: int = 0
    crashed: int = 0
    timed_out: int = 0


class InferenceHost:
    """Implements ports.Host. `prove`, `activate` and `deactivate` belong to one thread at a time, the rest to any.

    A new bundle gets workers beside those that serve; requests that were let in before the swap are still answered by the old bundle. Where memory
    does not suffice for both, those that serve give way meanwhile: requests are told that there is no model, and the next one after that starts
    its worker again. A `meek` host is a guest beside others: it has one worker, of the lowest priority, and none where memory does not suffice.
    """

    def __init__(
        self,
        profile: Profile,
        clock: Clock,
        deadlines: Deadlines = Deadlines(),
        *,
        available_bytes: Callable[[], int | None] = lambda: None,
        lacks: Callable[[Backend], str | None] = partial(selection.lacking, root=Path("/")),
        meek: bool = False,
    ) -> None:
        """`available_bytes` is the memory that may still be taken; None: enough. `lacks` says what this board misses of a backend."""
        self._lacks = lacks
        self._available_bytes = available_bytes
        self._profile = profile
        self._meek = meek
        self._clock = clock
        self._deadlines = deadlines
        self._starter = ThreadPoolExecutor(1, thread_name_prefix="worker-starter")
        self._pool: Pool | None = None
        self._proofs: dict[str, Proof] = {}
        self._conducts = ConductBook()
        self._started = 0

    def prove(self, bundle: Bundle) -> Proof:
        return self._prove(open_bundle(bundle))

    def activate(self, bundle: Bundle, chosen: Choice | None = None) -> None:
        """A bundle that this process has not proven yet (after a restart) is proven first, so prove's Rejects may come from here."""
        if self._is_active(bundle):
            return
        opened = open_bundle(bundle)
        proof = self._proofs.get(opened.sha256) or self._prove(opened, chosen)
        served = self._plan(opened, proof)
        workers = 1 if self._meek else self._profile.worker.count
        with self._room(bundle, served.variant, workers):
            pool = Pool(served, workers, self._start, self._conducts, self._clock)
            try:
                pool.launch()
            except ChildLost as error:
                raise Reject(f"variant {proof.chosen.variant!r}: {error}", code=error.code) from error
            self._conducts.open(opened.sha256)
            old, self._pool = self._pool, pool
        if old is not None:
            old.close()

    def deactivate(self) -> None:
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.close()

    def active(self) -> ActiveModel | None:
        pool = self._pool
        return None if pool is None else pool.served.model

    def infer(self, inputs: Tensors, *, timeout_s: float | None = None, on_trial: bool = True) -> Inference:
        """Without `timeout_s` the worker's own deadline holds. What is not `on_trial` leaves the bundle's conduct as it is."""
        return self._with_pool(Pool.infer, inputs, timeout_s, on_trial)

    def examine(self) -> None:
        self._with_pool(Pool.examine)

    def conduct(self, sha256: str) -> Conduct:
        return self._conducts.read(sha256)

    def close(self) -> None:
        self.deactivate()
        self._starter.shutdown()

    def counts(self) -> WorkerCounts:
        return WorkerCounts(self._started, self._conducts.failures("child-crash"), self._conducts.failures("child-timeout"))

    @property
    def waiting(self) -> int:
        """Requests for which no worker is free."""
        pool = self._pool
        return 0 if pool is None else pool.waiting

    @property
    def worker_pids(self) -> list[int]:
        """Of the workers that serve, as far as they are started."""
        pool = self._pool
        return [] if pool is None else pool.pids

    def _with_pool(self, act: Callable[Concatenate[Pool, P], T], *given: P.args, **named: P.kwargs) -> T:
        """A pool that shuts has a successor, or gives way. Raises Retry (no-model), or what `act` raises."""
        pool = self._pool
        while pool is not None:
            try:
                return act(pool, *given, **named)
            except Shut:
                pool, shut = self._pool, pool
                if pool is shut:
                    break
        raise Retry("there is no model just now", code="no-model")

    def _prove(self, opened: Opened, chosen: Choice | None = None) -> Proof:
        candidates = proving.candidates(opened.manifest, self._profile)
        attempt = partial(self._try, opened)
        found = selection.reselect(candidates, chosen, attempt, self._lacks, self._clock)
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
    def _room(self, bundle: Bundle, variant: Variant, workers: int = 1) -> Iterator[None]:
        """For so many workers more with this model. Raises Reject with code no-room when this host is meek."""
        needed_bytes = workers * memory.needed_bytes(bundle.manifest.entries[variant.entry].length)
        available_bytes, serving = self._available_bytes(), self._pool
        if available_bytes is None or available_bytes >= needed_bytes or (serving is None and not self._meek):
            yield
            return
        if self._meek:
            raise Reject(
                f"beside what serves, {available_bytes} bytes of memory are left, and it would need {needed_bytes}", code="no-room"
            )
        log.info("what serves gives way: %d bytes of memory are left, another model would need %d", available_bytes, needed_bytes)
        serving.close()
        try:
            yield
        finally:
            if self._pool is serving:
                serving.open()

    def _is_active(self, bundle: Bundle) -> bool:
        """It may have come again, to another slot: from now on its workers are started from there."""
        pool = self._pool
        if pool is None or pool.served.model.sha256 != bundle.sha256:
            return False
        pool.move(bundle)
        return True

    def _plan(self, opened: Opened, proof: Proof) -> Served:
        candidate = self._candidate(opened.manifest, proof.chosen)
        known = proving.exam_of(opened.known, candidate, self._profile, opened.manifest)
        wanted = self._wanted(opened.manifest, candidate)
        return Served(
            model=ActiveModel(opened.sha256, opened.manifest, opened.reference, opened.priors),
            wanted=replace(wanted, nice=_LOWEST_PRIORITY) if self._meek else wanted,
            bundle=opened.bundle,
            variant=candidate.variant,
            known=known,
            expected=expect(opened.manifest, known),
            row_s=opened.manifest.limits.latency_ms / 1000,
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
            cores=worker.affinity,
            nice=worker.nice,
        )

    def _start(self, wanted: Wanted) -> Child:
        self._started += 1
        return Child(wanted, self._clock, self._starter, self._deadlines)
