"""The bundle that the fleet orders to run beside the one that serves: it comes and goes with its orders."""

import logging
from collections.abc import Callable

from edge_agent.errors import Reject, Retry
from edge_agent.inference.host import InferenceHost
from edge_agent.inference.shadow import Shadow
from edge_agent.ports import Choice, Clock, Inference, Proof, Tensors
from fleet_contract.bundle import Bundle
from fleet_contract.messages import Event

log = logging.getLogger(__name__)

_FEWEST_INPUTS, _MOST_INPUTS = 16, 1_000
"""Between two events: no more often than the server can use, and no later than its gate waits for."""


class ShadowGuest:
    """Implements ports.Guest over a meek host of its own; `offer` is for the ShadowedHost before the model that serves, from any thread."""

    def __init__(self, model: str, host: InferenceHost, record: Callable[[Event], None], clock: Clock) -> None:
        self._model = model
        self._host = host
        self._record = record
        self._clock = clock
        self._running: tuple[str, Shadow] | None = None

    def prove(self, bundle: Bundle) -> Proof:
        return self._host.prove(bundle)

    def start(self, bundle: Bundle, chosen: Choice | None = None) -> None:
        gate_inputs = bundle.manifest.policy.rollout.gate_inputs
        every_inputs = min(max(gate_inputs, _FEWEST_INPUTS), _MOST_INPUTS)
        shadow = Shadow(self._model, self._host, self._record, self._clock, every_inputs=every_inputs)
        shadow.start()
        try:
            self._host.activate(bundle, chosen)
        except (Reject, Retry):
            shadow.close()
            raise
        self._running = bundle.sha256, shadow
        log.info("version %s runs as a shadow of %s", bundle.manifest.version, self._model)

    def end(self) -> None:
        running, self._running = self._running, None
        if running is not None:
            running[1].close(at_once=True)
        self._host.deactivate()

    def running(self) -> str | None:
        running = self._running
        return None if running is None else running[0]

    def offer(self, inputs: Tensors, given: Inference) -> None:
        running = self._running
        if running is not None:
            running[1].offer(inputs, given)
