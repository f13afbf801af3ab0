"""What a recurrent model remembers between two steps of its stream. It stays with the supervisor, so a lost worker does not lose it."""

from edge_agent.inference import planning
from edge_agent.ports import Inference, Tensors


class StreamState:
    """Of one model at a time. Without one, the host begins with zeros."""

    def __init__(self) -> None:
        self._sha256: str | None = None
        self._tensors: Tensors = {}

    def of(self, sha256: str | None) -> Tensors:
        """To be given beside the next step's input; nothing for another model than the one that it is of."""
        return self._tensors if sha256 == self._sha256 else {}

    def keep(self, inference: Inference | None) -> None:
        """After a step; one without an answer breaks the stream."""
        if inference is None:
            return self.forget()
        self._sha256 = inference.sha256
        self._tensors = planning.left_over(inference.manifest, inference.outputs)

    def forget(self) -> None:
        self._sha256, self._tensors = None, {}
