"""Which inputs are worth a person's look: as many of each predicted class, half of them those the model is least sure of, half at random.

Uncertainty alone is not enough: a drifted model is often confidently wrong, and only the random half finds that.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

import numpy as np

from edge_agent.ports import ActiveModel
from fleet_contract import limits
from fleet_contract.inputs import InputSpec
from fleet_contract.messages import Event, Record, Sample
from fleet_contract.order import SamplingCampaign

_MAX_POOL_BYTES = 32 * limits.MIB
_AFTER_ITEMS = 2
_POOL_ITEMS = 3


@dataclass(frozen=True)
class Candidate:
    """An input that `bundle` answered. `label`, `value` and `margin` are those of fleet_contract.answers.Answers. Where `data` is empty, `pixels` are
    what the model saw: encoding every picture would cost more than most models, so only the chosen ones are."""

    id: str
    at: datetime
    media_type: str
    data: bytes
    bundle: str
    label: str | None
    value: float
    margin: float
    pixels: np.ndarray | None = field(default=None, compare=False)

    @property
    def held_bytes(self) -> int:
        return len(self.data) or (0 if self.pixels is None else self.pixels.nbytes)


Encode = Callable[["np.ndarray"], tuple[str, bytes]]
"""Media type and bytes of pixels."""


def choose(candidates: Sequence[Candidate], campaign: SamplingCampaign, encode: Encode = lambda pixels: ("", b"")) -> list[Candidate]:
    """At most `max_items` candidates of at most `max_bytes` in all, each id once, encoded. The same candidates and campaign give the same choice."""
    unique = {candidate.id: candidate for candidate in candidates}
    classes: dict[str | None, list[Candidate]] = {}
    for candidate in unique.values():
        classes.setdefault(candidate.label, []).append(candidate)
    queues = [_alternate(classes[label], campaign.id) for label in sorted(classes, key=lambda label: (label is not None, label or ""))]
    chosen: list[Candidate] = []
    left_bytes = campaign.max_bytes
    while queues and len(chosen) < campaign.max_items:
        for queue in queues:
            if len(chosen) == campaign.max_items:
                break
            candidate = _encoded(queue.popleft(), encode)
            if len(candidate.data) <= min(left_bytes, limits.MAX_SAMPLE_BYTES):
                chosen.append(candidate)
                left_bytes -= len(candidate.data)
        queues = [queue for queue in queues if queue]
    return chosen


def _encoded(candidate: Candidate, encode: Encode) -> Candidate:
    if candidate.pixels is None:
        return candidate
    media_type, data = encode(candidate.pixels)
    return replace(candidate, media_type=media_type, data=data, pixels=None)


def _alternate(candidates: Sequence[Candidate], seed: str) -> deque[Candidate]:
    """Least sure, random, next least sure, next random ..., each once."""
    unsure = deque(sorted(candidates, key=lambda candidate: (candidate.margin, candidate.id)))
    shuffled = deque(sorted(candidates, key=lambda candidate: hashlib.sha256(f"{seed}/{candidate.id}".encode()).digest()))
    order: dict[str, Candidate] = {}
    for left, right in zip(unsure, shuffled, strict=True):
        order.setdefault(left.id, left)
        order.setdefault(right.id, right)
    return deque(order.values())


class Sampler:
    """Keeps the newest answered inputs and, during a campaign, those that come after it, until there are enough to choose from."""

    def __init__(self, idle_s: float, patience_s: float) -> None:
        """After `idle_s` without an input it makes do with as many as are wanted, after `patience_s` with any."""
        self._idle_s = idle_s
        self._patience_s = patience_s
        self._recent: deque[Candidate] = deque()
        self._recent_bytes = 0
        self._recent_items = 0
        self._sha256: str | None = None
        self._spec: InputSpec | None = None
        self._after = 0
        self._last_s = 0.0
        self.campaign: SamplingCampaign | None = None
        self.too_large = 0

    def begin(self, campaign: SamplingCampaign | None, now_s: float) -> None:
        """Choose for this campaign from now on (None: for none)."""
        self.campaign = campaign
        self._last_s = now_s
        self._after = 0
        self.too_large = 0

    def add(self, model: ActiveModel, candidates: Sequence[Candidate], now_s: float) -> None:
        """Inputs in the order they came. The recent ones kept are those of the drift rule's consecutive windows, as they raised the alarm."""
        if model.sha256 != self._sha256:
            self._sha256, self._spec = model.sha256, model.manifest.input
            self._recent.clear()
            self._recent_bytes = self._after = 0
        drift = model.manifest.policy.drift
        self._recent_items = drift.window_inputs * drift.windows
        self._last_s = now_s
        for candidate in candidates:
            if len(candidate.data) > limits.MAX_SAMPLE_BYTES:
                self.too_large += 1
                continue
            self._recent.append(candidate)
            self._recent_bytes += candidate.held_bytes
        self._after += len(candidates)
        self._trim()

    def due(self, now_s: float, exhausted: bool) -> list[Candidate] | None:
        """The choice, once it can be made: twice the wanted items came after the order, or three times are at hand, or nothing more comes
        (`exhausted`: ever). None until then, and without a single candidate."""
        campaign, at_hand = self.campaign, len(self._recent)
        if campaign is None or not at_hand:
            return None
        silence_s = now_s - self._last_s
        plenty = self._after >= _AFTER_ITEMS * campaign.max_items or at_hand >= _POOL_ITEMS * campaign.max_items
        enough = at_hand >= campaign.max_items and silence_s >= self._idle_s
        if plenty or enough or exhausted or silence_s >= self._patience_s:
            return choose(self._recent, campaign, self._encode)
        return None

    def _trim(self) -> None:
        kept = self._recent_items + (self._after if self.campaign else 0)
        while len(self._recent) > kept or self._recent_bytes > _MAX_POOL_BYTES:
            self._recent_bytes -= self._recent.popleft().held_bytes

    def _encode(self, pixels: np.ndarray) -> tuple[str, bytes]:
        from fleet_contract import images  # OpenCV, which a model of columns never needs

        media_type, data = images.encode(pixels, self._spec)
        self.too_large += len(data) > limits.MAX_SAMPLE_BYTES
        return media_type, data


def records_of(campaign: SamplingCampaign, chosen: Sequence[Candidate], too_large: int, at: datetime) -> list[Record]:
    """The samples, and last the event that says the campaign is over."""
    samples: list[Record] = [
        Sample(
            at=c.at,
            bundle=c.bundle,
            campaign=campaign.id,
            input_id=c.id,
            media_type=c.media_type,
            data=c.data,
            label=c.label,
            value=c.value,
        )
        for c in chosen
    ]
    size_bytes = sum(len(candidate.data) for candidate in chosen)
    detail = {"campaign": campaign.id, "items": len(chosen), "bytes": size_bytes, "too_large": too_large}
    return [*samples, Event(at=at, kind="sampling.done", detail=detail)]
