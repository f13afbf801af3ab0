"""From a model's outputs to records: results, sketch windows, and the candidates of sampling."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np

from edge_agent.monitor.sampling import Candidate, Sampler
from edge_agent.monitor.window import WindowKeeper
from edge_agent.ports import ActiveModel, Inference, Input
from fleet_contract import answers, limits
from fleet_contract.answers import Answers
from fleet_contract.answers.detail import Boxes, Detail
from fleet_contract.inputs import ImageInput
from fleet_contract.messages import Record, Result
from fleet_contract.signature import inputs_of


class Recorder:
    """Feeds windows and sampler with everything that was answered."""

    def __init__(self, sampler: Sampler) -> None:
        self._sampler = sampler
        self._windows = WindowKeeper()

    def record(
        self,
        inference: Inference,
        batch: np.ndarray,
        inputs: Sequence[Input],
        numbers: Sequence[int],
        now_s: float,
        latencies_us: Sequence[int] | None = None,
    ) -> list[Record]:
        """One Result an input, in order, and the windows that they fill. `numbers` are the inputs' ordinals; `latencies_us` those of each, where they
        were not asked together."""
        manifest = inference.manifest
        model = ActiveModel(inference.sha256, manifest, inference.reference, inference.priors)
        answered = answers.answer(manifest, {inputs_of(manifest.input)[0].name: batch}, inference.outputs, inference.priors)
        self._sampler.add(model, candidates_of(model, answered, inputs), now_s)
        windows = self._windows.add(model, batch, answered.features, numbers, [taken.at for taken in inputs])
        told_us = [inference.latency_us] * len(inputs) if latencies_us is None else latencies_us
        return [*results_of(inference, answered, inputs, told_us), *windows]


def results_of(inference: Inference, answered: Answers, inputs: Sequence[Input], latencies_us: Sequence[int]) -> list[Result]:
    rows = zip(inputs, answered.labels, answered.values, answered.abstained, answered.details, latencies_us, strict=True)
    return [
        Result(
            at=taken.at,
            bundle=inference.sha256,
            input_id=taken.id,
            label=label,
            value=value,
            latency_us=latency_us,
            abstained=abstained or msgspec.UNSET,
            detail=_told(detail),
        )
        for taken, label, value, abstained, detail, latency_us in rows
    ]


def candidates_of(model: ActiveModel, answered: Answers, inputs: Sequence[Input]) -> list[Candidate]:
    """Of those that a person can be shown."""
    rows = zip(inputs, answered.labels, answered.values, answered.margins, strict=True)
    candidates = [
        Candidate(taken.id, taken.at, taken.media_type, taken.data, model.sha256, label, value, margin, _pixels(model, taken))
        for taken, label, value, margin in rows
    ]
    return [candidate for candidate in candidates if candidate.held_bytes]


def _pixels(model: ActiveModel, taken: Input) -> np.ndarray | None:
    return taken.values if isinstance(model.manifest.input, ImageInput) and not taken.data else None


def _told(detail: Detail | None) -> Detail | msgspec.UnsetType:
    """As much as a record holds."""
    if isinstance(detail, Boxes):
        return msgspec.structs.replace(detail, boxes=detail.boxes[: limits.MAX_TOLD_BOXES_COUNT])
    return msgspec.UNSET if detail is None else detail
