"""A candidate that sees the inputs of the model that serves, in a thread of its own: compared and recorded, never returned, never waited for."""

import logging
import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from edge_agent.errors import AgentError, Retry
from edge_agent.inference.comparison import Comparison, compare, missed
from edge_agent.ports import ActiveModel, Clock, Inference, Inferring, Tensors
from fleet_contract import answers
from fleet_contract.errors import ContractError
from fleet_contract.messages import Event
from fleet_contract.signature import inputs_of

log = logging.getLogger(__name__)

COMPARED = "shadow.compared"
_WAITING = 8
_MAX_OFFER_BYTES = 8 * 1024**2


@dataclass(frozen=True)
class _Offer:
    inputs: Tensors
    given: Inference

    @property
    def rows(self) -> int:
        """Of what the model is asked about; callers may give states and constants beside it."""
        return len(self.inputs[inputs_of(self.given.manifest.input)[0].name])


class Shadow:
    """One candidate. `offer` may come from any thread; what it holds is not changed afterwards by anybody."""

    def __init__(self, model: str, candidate: Inferring, record: Callable[[Event], None], clock: Clock, *, every_inputs: int) -> None:
        """`record` gets one event for each `every_inputs` inputs, for each bundle it was compared with, and one at the end; it may raise Retry:
        what it did not take comes with the next."""
        self._model = model
        self._candidate = candidate
        self._record = record
        self._clock = clock
        self._every_inputs = every_inputs
        self._offers: queue.Queue[_Offer | None] = queue.Queue(_WAITING)
        self._lock = threading.Lock()
        self._lost = 0
        self._hurried = False
        self._bundle = ""
        self._compared = Comparison()
        self._thread = threading.Thread(target=self._work, name="shadow", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self, *, at_once: bool = False) -> None:
        """What was offered before is still compared; or, `at_once`, no more than the one at hand, and the rest is counted as missed."""
        self._hurried = at_once
        if self._thread.is_alive():
            self._offers.put(None)
            self._thread.join()

    def offer(self, inputs: Tensors, given: Inference) -> None:
        """Takes it, or counts it as missed; at once."""
        taken = _Offer(inputs, given)
        try:
            if sum(array.nbytes for array in inputs.values()) <= _MAX_OFFER_BYTES:
                return self._offers.put_nowait(taken)
        except queue.Full:
            pass
        with self._lock:
            self._lost += taken.rows

    def _work(self) -> None:
        while (offer := self._offers.get()) is not None:
            try:
                self._look(offer)
            except Exception:  # a candidate may be anybody's: its next answer may be one
                log.exception("the comparison of %s met a mistake of this program", self._model)
        self._compared = self._compared.plus(self._lost_since())
        self._tell()

    def _look(self, offer: _Offer) -> None:
        if offer.given.sha256 != self._bundle:
            self._tell()
            self._bundle = offer.given.sha256
        self._compared = self._compared.plus(self._lost_since()).plus(self._compare(offer))
        if self._compared.seen >= self._every_inputs:
            self._tell()

    def _compare(self, offer: _Offer) -> Comparison:
        given, model = offer.given, self._candidate.active()
        if self._hurried:
            return missed("not-in-time", offer.rows)
        if model is None:
            return missed("no-model", offer.rows)
        if given.manifest.states or model.manifest.states or inputs_of(model.manifest.input) != inputs_of(given.manifest.input):
            return missed("unfit", offer.rows)
        try:
            found = self._candidate.infer(offer.inputs)
            ours = answers.answer(given.manifest, offer.inputs, given.outputs, given.priors)
            theirs = answers.answer(found.manifest, offer.inputs, found.outputs, found.priors)
        except (AgentError, ContractError) as error:
            return missed(error.code, offer.rows)
        return compare(ours, given.latency_us, theirs, found.latency_us)

    def _lost_since(self) -> Comparison:
        with self._lock:
            lost, self._lost = self._lost, 0
        return missed("not-in-time", lost) if lost else Comparison()

    def _tell(self) -> None:
        candidate = self._candidate.active()
        if not self._compared.seen or not self._bundle:
            return
        told = {"model": self._model, "bundle": self._bundle, "candidate": candidate.sha256 if candidate else ""}
        try:
            self._record(Event(at=self._clock.now(), kind=COMPARED, detail={**told, **self._compared.detail()}))
        except Retry as error:
            log.warning("the comparison of %s is told later: %s", self._model, error)
            return
        self._compared = Comparison()


class Offered(Protocol):
    """A Shadow, or what stands before one that comes and goes."""

    def offer(self, inputs: Tensors, given: Inference) -> None: ...


class ShadowedHost:
    """Implements ports.Inferring: answers as `host` does, and offers what it answered to the shadow."""

    def __init__(self, host: Inferring, shadow: Offered) -> None:
        self._host = host
        self._shadow = shadow

    def active(self) -> ActiveModel | None:
        return self._host.active()

    def infer(self, inputs: Tensors, *, timeout_s: float | None = None) -> Inference:
        found = self._host.infer(inputs, timeout_s=timeout_s)
        self._shadow.offer(inputs, found)
        return found
