"""From a detector's boxes and scores to the things that it found."""

from __future__ import annotations

import numpy as np

from fleet_contract import limits
from fleet_contract.answers.classes import activate
from fleet_contract.answers.detail import Box, Boxes
from fleet_contract.answers.rows import Answers
from fleet_contract.errors import BadBundle
from fleet_contract.outputs import Detection


def detect(output: Detection, boxes: np.ndarray, scores: np.ndarray, priors: np.ndarray | None) -> Answers:
    """The label is the best box's class. The margin is how far the best score of all, told or not, is from the threshold.
    Raises BadBundle where there are not as many boxes as scores and priors."""
    counts = {boxes.shape[1], scores.shape[1], boxes.shape[1] if priors is None else len(priors)}
    if len(counts) > 1:
        raise BadBundle(f"{boxes.shape[1]} boxes do not fit their scores or priors: {counts}", field="boxes")
    shares = activate(scores, output.activation)[:, :, int(output.background) :]
    found = [_find(output, corners_of(output, row, priors), share) for row, share in zip(boxes, shares, strict=True)]
    best = shares.max(axis=(1, 2), initial=0.0)
    features = [[high, each.found, _area(each)] for high, each in zip(best.tolist(), found, strict=True)]
    return Answers(
        labels=[each.boxes[0].label if each.boxes else None for each in found],
        values=[each.boxes[0].score if each.boxes else 0.0 for each in found],
        margins=np.abs(best - output.score_threshold).tolist(),
        abstained=[False] * len(found),
        details=[*found],
        features=np.array(features, np.float32).reshape(len(found), 3),
    )


def corners_of(output: Detection, boxes: np.ndarray, priors: np.ndarray | None) -> np.ndarray:
    """float32 (n, 4) x1, y1, x2, y2 of one row's boxes: decoded against the priors (SSD, Liu et al. 2016, section 2.2), or as they come."""
    if priors is not None:
        near, far = output.variances
        centers = priors[:, :2] + boxes[:, :2] * np.float32(near) * priors[:, 2:]
        with np.errstate(over="ignore"):  # an infinite box is none, and is left out
            sizes = priors[:, 2:] * np.exp(boxes[:, 2:] * np.float32(far))
    elif output.form == "centers":
        centers, sizes = boxes[:, :2], boxes[:, 2:]
    else:
        return boxes
    return np.concatenate([centers - sizes / 2, centers + sizes / 2], axis=1)


def suppress(boxes: np.ndarray, kinds: np.ndarray, iou_threshold: float, most: int) -> list[int]:
    """Greedy non-maximum suppression of boxes (n, 4) that come best first: the places of at most `most` that overlap no better one of their
    kind by more than the threshold."""
    areas = _sizes(boxes).prod(axis=1)
    left, kept = np.arange(len(boxes)), []
    while len(left) and len(kept) < most:
        best, left = left[0], left[1:]
        kept.append(int(best))
        low = np.maximum(boxes[best, :2], boxes[left, :2])
        high = np.minimum(boxes[best, 2:], boxes[left, 2:])
        common = np.maximum(high - low, 0).prod(axis=1)
        union = areas[best] + areas[left] - common
        left = left[(kinds[left] != kinds[best]) | (common <= iou_threshold * union)]
    return kept


def _find(output: Detection, corners: np.ndarray, shares: np.ndarray) -> Boxes:
    """Of one picture. Where more boxes than limits.MAX_CANDIDATE_BOXES_COUNT are above the threshold, the best of them are looked at."""
    usable = (shares >= output.score_threshold) & np.isfinite(corners).all(axis=1)[:, None]
    places, kinds = np.nonzero(usable)
    scores = shares[places, kinds]
    order = np.argsort(-scores, kind="stable")[: limits.MAX_CANDIDATE_BOXES_COUNT]
    places, kinds, scores = places[order], kinds[order], scores[order]
    kept = suppress(corners[places], kinds, output.iou_threshold, output.max_boxes)
    names = output.classes[int(output.background) :]
    made = [
        Box(names[kind], share, *corner)
        for kind, share, corner in zip(kinds[kept].tolist(), scores[kept].tolist(), corners[places[kept]].tolist(), strict=True)
    ]
    return Boxes(len(made), made)


def _sizes(boxes: np.ndarray) -> np.ndarray:
    return np.maximum(boxes[:, 2:] - boxes[:, :2], 0)


def _area(found: Boxes) -> float:
    """The mean share of the picture."""
    sizes = [max(0.0, box.x2 - box.x1) * max(0.0, box.y2 - box.y1) for box in found.boxes]
    return sum(sizes) / len(sizes) if sizes else 0.0
