"""scikit-learn's 1,797 handwritten digits as camera frames, and what a fouled lens does to a frame.

The fault lives here, in the example: the product knows neither digits nor lenses.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from sklearn.datasets import load_digits

SIDE = 64
TURN_DEGREES = 25
BLUR_SIGMA_PIXELS = 2.2
_JPEG_QUALITY = 85


@dataclass(frozen=True)
class Scan:
    """One real scan: 8x8 values 0..16, and the digit that its writer meant."""

    pixels: np.ndarray
    digit: str


def all_scans(rng: np.random.Generator) -> list[Scan]:
    """Every scan once, in random order, so that any slice holds writers and digits alike."""
    digits = load_digits()
    return [Scan(digits.images[at], str(digits.target[at])) for at in rng.permutation(len(digits.target))]


def render(scan: Scan, rng: np.random.Generator) -> np.ndarray:
    """uint8 (64, 64) grey: ink on paper of varying brightness, with a little camera shake and sensor noise."""
    ink = cv2.resize(scan.pixels.astype(np.float32) / 16, (48, 48), interpolation=cv2.INTER_CUBIC)
    field = np.zeros((SIDE, SIDE), np.float32)
    dy, dx = rng.integers(-2, 3, size=2)
    field[8 + dy : 56 + dy, 8 + dx : 56 + dx] = ink
    frame = rng.uniform(200, 225) - np.clip(field, 0, 1) * rng.uniform(150, 180) + rng.normal(0, 4, field.shape)
    return np.clip(frame, 0, 255).astype(np.uint8)


def foul(frame: np.ndarray) -> np.ndarray:
    """The same uint8 (64, 64) frame through a fouled lens: turned by 25 degrees, out of focus, and lit from the left alone."""
    turn = cv2.getRotationMatrix2D((SIDE / 2 - 0.5, SIDE / 2 - 0.5), TURN_DEGREES, 1.0)
    out = cv2.warpAffine(frame, turn, (SIDE, SIDE), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    out = cv2.GaussianBlur(out, (0, 0), BLUR_SIGMA_PIXELS).astype(np.float32)
    out *= np.linspace(1.05, 0.40, SIDE, dtype=np.float32)[None, :]
    return np.clip(out, 0, 255).astype(np.uint8)


def to_jpeg(frame: np.ndarray) -> bytes:
    return cv2.imencode(".jpg", frame, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])[1].tobytes()


def write_training_frames(scans: Sequence[Scan], folder: Path, rng: np.random.Generator) -> None:
    """One folder a class, as the task file's `image-folder` reader wants it."""
    for at, scan in enumerate(scans):
        place = folder / scan.digit
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{at:04d}.jpg").write_bytes(to_jpeg(render(scan, rng)))


def frames(scans: Sequence[Scan], rng: np.random.Generator, *, fouled: bool = False) -> Iterator[tuple[bytes, str]]:
    """(JPEG, true digit) of each scan, as a clean or a fouled camera sees it."""
    for scan in scans:
        frame = render(scan, rng)
        yield to_jpeg(foul(frame) if fouled else frame), scan.digit
