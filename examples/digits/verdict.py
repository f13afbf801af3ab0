"""Did the loop close? Pure rules from what was seen to reasons, figures and the summary's rows."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import isnan

from examples.digits.footage import CAMERAS, FAULTY, HEALTHY, Part, Truth

MIN_CHALLENGER_FOULED = 0.87
MIN_GAIN = 0.2
ROUNDING = 1e-9
"""0.99 - 0.97 is not quite 0.02: a difference at its limit passes."""
MAX_LOSS_CLEAN = 0.02
MAX_LABELS = 100
FAULT_PARTS = (Part.FAULT, Part.CHOICE)


@dataclass(frozen=True)
class Answer:
    """One stored result."""

    device: str
    input_id: str
    bundle: str
    label: str | None


@dataclass(frozen=True)
class Accuracy:
    """Shares of right answers; the challenger's on frames that no label was given for."""

    champion_clean: float
    champion_fouled: float
    challenger_fouled: float
    challenger_clean: float


@dataclass(frozen=True)
class Count:
    """One row of the server's ledger: a device's epoch and lane."""

    device: str
    lane: str
    produced: int
    stored: int
    queued: int
    dropped: int


@dataclass(frozen=True)
class Seen:
    """All that the verdict rests on."""

    champion: str
    challenger: str
    truth: Mapping[tuple[str, str], Truth]
    answers: Sequence[Answer]
    counts: Sequence[Count]
    alarms: Sequence[str]
    """The device of each drift finding, in the order of their detection."""
    labels: int
    sample_bytes: int
    sample_bytes_allowed: int
    seconds: float


def share_right(seen: Seen, bundle: str, camera: str, parts: Iterable[Part]) -> float:
    """Of the frames of one camera that this bundle answered; NaN where there are none."""
    wanted = {*parts}
    rights = [
        answer.label == seen.truth[answer.device, answer.input_id].digit
        for answer in seen.answers
        if answer.device == camera and answer.bundle == bundle and _part(seen, answer) in wanted
    ]
    return sum(rights) / len(rights) if rights else float("nan")


def accuracy(seen: Seen) -> Accuracy:
    """Clean: the mean of the healthy cameras, over the same scans for both models. Fouled: the faulty camera."""
    return Accuracy(
        champion_clean=_mean(share_right(seen, seen.champion, camera, [Part.BEFORE]) for camera in HEALTHY),
        champion_fouled=share_right(seen, seen.champion, FAULTY, FAULT_PARTS),
        challenger_fouled=share_right(seen, seen.challenger, FAULTY, [Part.TEST]),
        challenger_clean=_mean(share_right(seen, seen.challenger, camera, [Part.TEST]) for camera in HEALTHY),
    )


def false_alarms(seen: Seen) -> int:
    """Every finding but the first one on the faulty camera."""
    return len(seen.alarms) - (FAULTY in seen.alarms)


def lost(seen: Seen) -> int:
    """Frames without a result, and records that a device made but the server does not hold."""
    answered = {(answer.device, answer.input_id) for answer in seen.answers}
    return len(seen.truth.keys() - answered) + sum(max(0, count.produced - count.stored) for count in seen.counts)


def duplicated(seen: Seen) -> int:
    """Results beyond the first of each frame, and records that the server holds more often than they were made."""
    repeats = sum(n - 1 for n in Counter((answer.device, answer.input_id) for answer in seen.answers).values())
    return repeats + sum(max(0, count.stored - count.produced) for count in seen.counts)


def reasons(seen: Seen) -> list[str]:
    """Why the loop did not close; empty when it did."""
    is_now = accuracy(seen)
    gain = is_now.challenger_fouled - is_now.champion_fouled
    loss = is_now.champion_clean - is_now.challenger_clean
    rules = [
        (
            is_now.challenger_fouled >= MIN_CHALLENGER_FOULED,
            f"the challenger reads {is_now.challenger_fouled:.3f} of the fouled test frames; at least {MIN_CHALLENGER_FOULED} are needed",
        ),
        (gain >= MIN_GAIN, f"the challenger gains {gain:.3f} on fouled frames; at least {MIN_GAIN} is needed"),
        (loss <= MAX_LOSS_CLEAN + ROUNDING, f"the challenger loses {loss:.3f} on clean frames; at most {MAX_LOSS_CLEAN} is allowed"),
        (FAULTY in seen.alarms, f"no drift was found on {FAULTY}"),
        (false_alarms(seen) == 0, f"{false_alarms(seen)} false alarms: findings on {', '.join(seen.alarms)}"),
        (0 < seen.labels <= MAX_LABELS, f"{seen.labels} labels were used; 1 to {MAX_LABELS} are allowed"),
        (seen.sample_bytes <= seen.sample_bytes_allowed, f"samples took {seen.sample_bytes} bytes of {seen.sample_bytes_allowed} allowed"),
        (lost(seen) == 0, f"{lost(seen)} frames or records were lost"),
        (duplicated(seen) == 0, f"{duplicated(seen)} results or records were stored twice"),
        (all(count.dropped == count.queued == 0 for count in seen.counts), "records were dropped, or still wait on a device"),
        ({count.device for count in seen.counts} == {*CAMERAS}, "the ledger does not hold every camera"),
    ]
    return [reason for holds, reason in rules if not holds]


def last_line(seen: Seen, why_not: Sequence[str]) -> dict:
    """The JSON object that ends the run."""
    is_now = accuracy(seen)
    return {
        "closed": not why_not,
        "accuracy": {name: None if isnan(value) else round(value, 4) for name, value in vars(is_now).items()},
        "false_alarms": false_alarms(seen),
        "labels": seen.labels,
        "lost": lost(seen),
        "duplicated": duplicated(seen),
        "seconds": round(seen.seconds, 1),
    }


def accuracy_rows(seen: Seen) -> list[list[str]]:
    """Camera, champion before the fault, champion during it, challenger after it."""
    return [
        [
            camera,
            f"{share_right(seen, seen.champion, camera, [Part.BEFORE]):.3f}",
            f"{share_right(seen, seen.champion, camera, FAULT_PARTS):.3f}",
            f"{share_right(seen, seen.challenger, camera, [Part.TEST]):.3f}",
        ]
        for camera in CAMERAS
    ]


def ledger_rows(seen: Seen) -> list[list[str]]:
    """Device, lane, produced, stored, queued, dropped."""
    counts = sorted(seen.counts, key=lambda count: (count.device, count.lane))
    return [[c.device, c.lane, str(c.produced), str(c.stored), str(c.queued), str(c.dropped)] for c in counts]


def _part(seen: Seen, answer: Answer) -> Part | None:
    truth = seen.truth.get((answer.device, answer.input_id))
    return truth.part if truth else None


def _mean(values: Iterable[float]) -> float:
    listed = list(values)
    return sum(listed) / len(listed)
