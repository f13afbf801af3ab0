"""Recordings: a folder of PCM WAV files, each cut into windows. A recording's windows stay in one part, for they resemble each other."""

import io
import wave
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fleet_contract import limits
from model_tools.data import labels
from model_tools.data.dataset import Dataset, Splits
from model_tools.data.listing import Listing, find, list_files
from model_tools.data.split import choose_way, hold
from model_tools.data.vectors import check_varied
from model_tools.data.windows import check_fits, stride_of, window_at, windowed
from model_tools.errors import BadData
from model_tools.sections import SplitBy, WavFolder, WindowShape
from model_tools.task import Task

_SUFFIXES = (".wav", ".wave")
_FEWEST_PER_PART = 3
"""Recordings of each class: one each for training, validation and test."""
_HEAD_BYTES = 64
_PCM, _EXTENSIBLE = b"\x01\x00", b"\xfe\xff"
_Span = tuple[float, float]
"""Which part of a recording, as shares of its length."""


@dataclass(frozen=True)
class _Recordings:
    """`about` has a row for each file, without inputs. `samples` and `channels` are what their headers say."""

    listing: Listing
    about: Dataset
    samples: Sequence[int]
    rate_hz: int
    columns: tuple[str, ...]


def read_recordings(task: Task) -> Splits:
    """Windows (rows, length, channels) of samples in -1..1, whole recordings in each part: as split.group or split.time say, else with each class'
    share of them. Where a class has fewer than three, or by order, each recording's end is the test.

    Raises BadData: no folder, a file that is no PCM WAV (named), another rate or number of channels, recordings too short, too few, too large.
    """
    if not isinstance(task.data, WavFolder) or not isinstance(task.input, WindowShape):
        raise BadData("the task does not read recordings", field="data.reader")
    if task.input.period_s or task.input.gap_s:
        raise BadData("recordings are cut by count: drop input.period_s and input.gap_s", field="input.period_s")
    found = _survey(task, list_files(task, _SUFFIXES))
    by, spans, notes = _spread(task, found)
    if short := sum(samples < task.input.length for samples in found.samples):
        notes += (f"{short} of {len(found.samples)} recordings are shorter than a window of {task.input.length} samples, and left out",)
    parts = [_windows(task, found, [(file, span) for file, span in enumerate(part) if span is not None], notes) for part in spans]
    splits = windowed(parts, task.kind, by, task.input)
    if (rows := sum(map(len, splits.parts))) < task.data.min_rows:
        raise BadData(f"{rows} windows, at least {task.data.min_rows} are wanted", field="data.folder", limit=task.data.min_rows)
    check_varied(splits.train.inputs.reshape(-1, len(found.columns)), found.listing.folder.name)
    return splits


def _survey(task: Task, listing: Listing) -> _Recordings:
    heads = [_header(listing, file) for file in listing.files]
    rate_hz, channels = task.data.rate_hz or heads[0][1], heads[0][2]
    for file, (_, rate, count) in zip(listing.files, heads, strict=True):
        if rate != rate_hz:
            raise BadData(f"{file!r} has {rate} samples a second, not {rate_hz}: resample it, see data.rate_hz", field=file, limit=rate_hz)
        if count != channels:
            raise BadData(f"{file!r} has {count} channels, {listing.files[0]!r} has {channels}", field=file, limit=channels)
    columns = tuple(task.input.columns) or _names(channels)
    if len(columns) != channels:
        raise BadData(f"input.columns names {len(columns)} of {channels} channels", field="input.columns", limit=channels)
    targets, classes = labels.read_targets(task, listing.words, len(listing.words), "label", least=1)
    groups = tuple(listing.groups) or None
    about = Dataset(np.zeros((len(heads), 0), np.float32), targets, classes, tuple(listing.files), columns, groups, listing.seconds(task))
    return _Recordings(listing, about, [samples for samples, _, _ in heads], rate_hz, columns)


def _names(channels: int) -> tuple[str, ...]:
    return ("sound",) if channels == 1 else tuple(f"sound{number}" for number in range(1, channels + 1))


def _spread(task: Task, found: _Recordings) -> tuple[SplitBy, list[list[_Span | None]], tuple[str, ...]]:
    """For training, validation and test: what each takes of every file."""
    rule, about = task.split, found.about
    by, notes = choose_way(about, rule), ()
    fewest = min(about.count().values()) if task.kind == "classification" else len(about)
    if rule.by is None and by == "shares" and fewest < _FEWEST_PER_PART:
        by, notes = "order", (f"a class has {fewest} recordings only: the end of each recording is the test",)
    if by == "order":
        ends = 1 - rule.test - rule.validation, 1 - rule.test
        return by, [[span] * len(about) for span in ((0.0, ends[0]), ends, (ends[1], 1.0))], notes
    part = np.zeros(len(about), np.int64)
    for number, at in zip((2, 1), hold(about, rule, by, task.kind), strict=True):
        part[at] = number
    spans: list[list[_Span | None]] = [[(0.0, 1.0) if number == mine else None for mine in part] for number in range(3)]
    return "group" if by == "shares" else by, spans, notes


def _windows(task: Task, found: _Recordings, taken: Sequence[tuple[int, _Span]], notes: tuple[str, ...]) -> Dataset:
    length, stride, about = task.input.length, stride_of(task.input), found.about
    spans = [(file, round(span[0] * found.samples[file]), round(span[1] * found.samples[file])) for file, span in taken]
    counts = [max(0, (end - start - length) // stride + 1) for _, start, end in spans]
    check_fits(sum(counts), length, len(found.columns))
    inputs = np.empty((sum(counts), length, len(found.columns)), np.float32)
    ids, at = [], 0
    for (file, start, end), count in zip(spans, counts, strict=True):
        samples = _samples(found.listing, about.ids[file])[start:end]
        windows = window_at(np.arange(len(samples)), length, stride)[:count]
        inputs[at : at + len(windows)] = samples[windows]
        ids += [f"{about.ids[file]}:{start + first}" for first in windows[:, 0].tolist()]
        at += len(windows)
    files = np.repeat([file for file, _, _ in spans], counts).astype(np.int64)
    groups = about.groups or about.ids
    return Dataset(
        inputs,
        about.labels[files],
        about.classes,
        tuple(ids),
        found.columns,
        tuple(groups[file] for file in files),
        None if about.times is None else about.times[files],
        notes,
    )


def _header(listing: Listing, file: str) -> tuple[int, int, int]:
    """Samples, samples a second, channels."""
    with _open(listing, file) as sound:
        return sound.getnframes(), sound.getframerate(), sound.getnchannels()


def _samples(listing: Listing, file: str) -> np.ndarray:
    """float32 (samples, channels), -1..1. Raises BadData for fewer than the header says."""
    with _open(listing, file) as sound:
        data, width, count, channels = sound.readframes(sound.getnframes()), sound.getsampwidth(), sound.getnframes(), sound.getnchannels()
    if len(data) != count * channels * width:
        raise BadData(f"{file!r} is cut short: {len(data)} of {count * channels * width} bytes", field=file, limit=count * channels * width)
    return _decode(np.frombuffer(data, np.uint8), width).reshape(count, channels)


def _decode(data: np.ndarray, width: int) -> np.ndarray:
    """Little-endian PCM of 1 (unsigned), 2, 3 or 4 bytes a sample, full scale being 1."""
    if width == 1:
        return (data.astype(np.float32) - 128) / 128
    whole = np.zeros((len(data) // width, 4), np.uint8)
    whole[:, 4 - width :] = data.reshape(-1, width)
    return (whole.view("<i4")[:, 0] / 2**31).astype(np.float32)


def _open(listing: Listing, file: str) -> wave.Wave_read:
    path = find(listing.folder, file, limits.MAX_RECORDING_BYTES)
    try:
        with path.open("rb") as opened:
            extended = _is_extensible(opened.read(_HEAD_BYTES))
        sound = wave.open(_plain(path.read_bytes()) if extended else str(path), "rb")  # noqa: SIM115 - closed by whoever asked
    except (wave.Error, EOFError, OSError, RuntimeError) as error:  # RuntimeError: a chunk that ends behind the file
        raise BadData(f"{file!r} is no readable PCM WAV file: {str(error) or 'it ends too early'}", field=file) from error
    if sound.getsampwidth() not in (1, 2, 3, 4):
        sound.close()
        raise BadData(f"{file!r} has {8 * sound.getsampwidth()} bits a sample, not 8, 16, 24 or 32", field=file, limit=32)
    return sound


def _is_extensible(head: bytes) -> bool:
    """Whether the format chunk comes first, and is a WAVEFORMATEXTENSIBLE with a PCM subformat, which Python 3.11's own reader refuses."""
    return head[12:16] == b"fmt " and head[20:22] == _EXTENSIBLE and head[44:46] == _PCM


def _plain(data: bytes) -> io.BytesIO:
    return io.BytesIO(data[:20] + _PCM + data[22:])
