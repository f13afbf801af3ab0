"""From a model's answers to records: results, sketch windows, and the candidates of sampling."""

from collections.abc import Sequence

import numpy as np

from edge_agent.monitor.sampling import Candidate, Sampler
from edge_agent.monitor.window import WindowKeeper
from edge_agent.ports import ActiveModel, Inference, Input
from fleet_contract import features
from fleet_contract.messages import Record, Result


class Recorder:
    """Feeds windows and sampler with everything that was answered."""

    def __init__(self, sampler: Sampler) -> None:
        self._sampler = sampler
        self._windows = WindowKeeper()

    def record(
        self, inference: Inference, batch: np.ndarray, inputs: Sequence[Input], numbers: Sequence[int], now_s: float
    ) -> list[Record]:
        """One Result an input, in order, and the windows that they fill. `numbers` are the inputs' ordinals."""
        model = ActiveModel(inference.sha256, inference.manifest, inference.reference)
        probabilities = features.softmax(inference.outputs[inference.manifest.output.tensor])
        candidates = candidates_of(inference, probabilities, inputs)
        self._sampler.add(model, candidates, now_s)
        results = [
            Result(at=c.at, bundle=c.bundle, input_id=c.id, label=c.label, value=c.value, latency_us=inference.latency_us)
            for c in candidates
        ]
        return [*results, *self._windows.add(model, batch, probabilities, numbers, [taken.at for taken in inputs])]


def candidates_of(inference: Inference, probabilities: np.ndarray, inputs: Sequence[Input]) -> list[Candidate]:
    """Each input with its predicted label, that label's probability, and the probability's lead over the second."""
    classes = inference.manifest.output.classes
    top = np.partition(probabilities, -2, axis=1)[:, -2:]
    rows = zip(inputs, probabilities.argmax(axis=1).tolist(), top[:, 1].tolist(), (top[:, 1] - top[:, 0]).tolist(), strict=True)
    return [
        Candidate(taken.id, taken.at, taken.media_type, taken.data, inference.sha256, classes[best], value, margin)
        for taken, best, value, margin in rows
    ]
