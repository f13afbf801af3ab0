"""A model on trial, asked by those who do not judge it."""

from edge_agent.inference.host import InferenceHost
from edge_agent.ports import ActiveModel, Inference, Tensors


class Bystander:
    """Implements ports.Inferring for local applications beside a source: an input that makes the model fail, or want too much memory, can be found for
    almost any bundle, and must not take a release of the fleet back. What the source's inputs do to it counts."""

    def __init__(self, host: InferenceHost) -> None:
        self._host = host

    def active(self) -> ActiveModel | None:
        return self._host.active()

    def infer(self, inputs: Tensors, *, timeout_s: float | None = None) -> Inference:
        return self._host.infer(inputs, timeout_s=timeout_s, on_trial=False)
