"""Inputs for the MLPerf Tiny models (Banbury et al. 2021, arXiv 2106.07597), float32, rows first, as like their own as the corpus allows.

Only the streaming wake word comes with samples of its own. Pictures are cuts of scikit-learn's two photographs; sounds are the corpus's recordings
through the benchmark's own features.
"""

import wave
from pathlib import Path

import numpy as np
from scipy.fft import dct

from tests.fakes import corpus

_RATE_HZ = 16_000


def wake_words() -> tuple[np.ndarray, np.ndarray]:
    """Spectrograms (45, 30, 1, 40) and their labels (45,)."""
    with np.load(corpus.folder() / "mlperf_tiny/models/calibration_samples.npz") as held:
        return held["specs"].astype(np.float32), held["labels"].astype(np.int64)


def pictures(rows: int, side: int, seed: int = 0) -> np.ndarray:
    """Square cuts of photographs, 0..255, (rows, side, side, 3), of one to four times the size."""
    from sklearn.datasets import load_sample_images

    photographs, rng = load_sample_images().images, np.random.default_rng(seed)
    cuts = []
    for at in range(rows):
        photograph, times = photographs[at % 2], int(rng.integers(1, 5))
        top, left = (int(rng.integers(0, size - times * side + 1)) for size in photograph.shape[:2])
        cut = photograph[top : top + times * side, left : left + times * side].astype(np.float32)
        cuts.append(cut.reshape(side, times, side, times, 3).mean(axis=(1, 3)))
    return np.rint(np.stack(cuts))


def keywords() -> np.ndarray:
    """MFCC of a second each, (rows, 49, 10, 1): 30 ms every 20 ms, 40 mel bands of 20 to 4,000 Hz, as the benchmark's get_dataset.py makes them."""
    seconds = np.concatenate([_cut(_sound(name), _RATE_HZ, _RATE_HZ // 4) for name in _SOUNDS])
    loud = seconds / np.maximum(np.abs(seconds).max(axis=1, keepdims=True), 1e-3)
    frames = np.stack([_cut(second, 480, 320) for second in loud]) * np.hanning(481)[:-1]
    bands = np.abs(np.fft.rfft(frames, 512)) @ _mel(40, 512, 20, 4_000)
    return (dct(np.log(bands + 1e-6))[..., :10] / np.sqrt(2 * 40))[..., None].astype(np.float32)


def machines() -> np.ndarray:
    """Five frames of 128 mel bands in dB side by side, (rows, 640), as the anomaly benchmark's common.py makes them."""
    frames = np.concatenate([_cut(_sound(name), 1_024, 512) for name in _SOUNDS]) * np.hanning(1_025)[:-1]
    mel = 10 * np.log10(np.abs(np.fft.rfft(frames)) ** 2 @ _mel(128, 1_024, 0, 8_000) / 64 + np.finfo(np.float32).eps)
    return np.concatenate([mel[at : len(mel) - 4 + at] for at in range(5)], axis=1)[::4].astype(np.float32)


_SOUNDS = ("mlperf_tiny/models/short_wav_easy10s.wav", "silero_vad/test.wav")


def _sound(name: str) -> np.ndarray:
    """One channel, -1..1."""
    path: Path = next((corpus.folder() / name.split("/")[0]).rglob(Path(name).name))
    with wave.open(str(path)) as file:
        values = np.frombuffer(file.readframes(file.getnframes()), np.int16).reshape(-1, file.getnchannels())
    return values[:, 0].astype(np.float32) / 2**15


def _cut(values: np.ndarray, length: int, step: int) -> np.ndarray:
    return np.lib.stride_tricks.sliding_window_view(values, length)[::step]


def _mel(bands: int, points: int, low_hz: float, high_hz: float) -> np.ndarray:
    """Triangles, evenly spaced on the mel scale: (points / 2 + 1, bands)."""
    frequencies = _to_mel(np.fft.rfftfreq(points, 1 / _RATE_HZ))
    edges = np.linspace(_to_mel(low_hz), _to_mel(high_hz), bands + 2)
    low, middle, high = edges[:-2], edges[1:-1], edges[2:]
    rising, falling = (frequencies[:, None] - low) / (middle - low), (high - frequencies[:, None]) / (high - middle)
    return np.maximum(0, np.minimum(rising, falling))


def _to_mel(frequency_hz: np.ndarray | float) -> np.ndarray:
    return 1127.0 * np.log1p(np.asarray(frequency_hz) / 700.0)
