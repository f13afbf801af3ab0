"""Folders of WAV files: what is read of them, how they are split, and what is told of bad ones."""

import wave
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from model_tools.data.dataset import Dataset, Splits
from model_tools.data.reading import read_splits
from model_tools.errors import BadData
from model_tools.task import Task, load_task

RATE_HZ = 8_000


def record(path: Path, values: np.ndarray, width: int = 2, rate_hz: int = RATE_HZ) -> None:
    """`values` float (samples, channels), -1..1."""
    path.parent.mkdir(parents=True, exist_ok=True)
    whole = np.clip(np.rint(values * 2 ** (8 * width - 1)), -(2 ** (8 * width - 1)), 2 ** (8 * width - 1) - 1).astype("<i4")
    bytes_of = (whole + 128).astype(np.uint8) if width == 1 else whole[..., None].view(np.uint8)[..., :width]
    with wave.open(str(path), "wb") as sound:
        sound.setnchannels(values.shape[1])
        sound.setsampwidth(width)
        sound.setframerate(rate_hz)
        sound.writeframes(np.ascontiguousarray(bytes_of).tobytes())


def hum(samples: int, pitch_hz: float, channels: int = 1, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    tone = np.sin(2 * np.pi * pitch_hz * np.arange(samples) / RATE_HZ)[:, None]
    return 0.5 * tone + 0.01 * rng.normal(size=(samples, channels))


def wav_task(folder: Path, shape: str = "", data: str = "", more: str = "", kind: str = "classification") -> Task:
    (folder / "task.toml").write_text(
        f'[task]\nname = "t"\nkind = "{kind}"\n[input]\nkind = "window"\nlength = 64\nstride = 64\n{shape}\n'
        f'[data]\nreader = "wav"\nfolder = "sounds"\n{data}\n{more}'
    )
    return load_task(folder / "task.toml")


def machines(folder: Path, files: int = 6, samples: int = 640, words: Sequence[str] = ("high", "low")) -> None:
    for at, word in enumerate(words):
        for number in range(files):
            record(folder / "sounds" / word / f"{number}.wav", hum(samples, 1_000 / (at + 1), seed=10 * at + number))


def everything(splits: Splits) -> Dataset:
    return splits.train.join(splits.validation).join(splits.test)


class TestReading:
    @pytest.mark.parametrize("width", [1, 2, 3, 4])
    def test_every_depth_gives_the_same_sound(self, tmp_path: Path, width: int) -> None:
        values = np.linspace(-1, 0.98, 640)[:, None]
        for number in range(3):
            for word in ("a", "b"):
                record(tmp_path / "sounds" / word / f"{number}.wav", values, width)
        part = read_splits(wav_task(tmp_path)).train
        assert part.inputs.shape == (20, 64, 1)
        assert np.abs(part.inputs[:10].ravel() - values[:, 0]).max() < 2.0 ** (1 - 8 * width) + 1e-6

    def test_the_extended_header_is_read_too(self, tmp_path: Path) -> None:
        machines(tmp_path)
        wanted = read_splits(wav_task(tmp_path)).sha256
        for path in (tmp_path / "sounds").rglob("*.wav"):
            data = path.read_bytes()
            extra = (
                (22).to_bytes(2, "little") + data[34:36] + bytes(4) + b"\x01\x00\x00\x00\x00\x00\x10\x00\x80\x00\x00\xaa\x00\x38\x9b\x71"
            )
            head = (
                b"RIFF"
                + (len(data) + 16).to_bytes(4, "little")
                + data[8:16]
                + (40).to_bytes(4, "little")
                + b"\xfe\xff"
                + data[22:36]
                + extra
            )
            path.write_bytes(head + data[36:])
        assert read_splits(wav_task(tmp_path)).sha256 == wanted

    def test_channels_are_columns(self, tmp_path: Path) -> None:
        for number in range(6):
            record(tmp_path / "sounds" / "ab"[number % 2] / f"{number}.wav", hum(640, 500, channels=2))
        assert read_splits(wav_task(tmp_path)).columns == ("sound1", "sound2")
        assert read_splits(wav_task(tmp_path, 'columns = ["left", "right"]')).columns == ("left", "right")

    def test_whole_recordings_in_each_part_each_class_in_its_share(self, tmp_path: Path) -> None:
        machines(tmp_path)
        splits = read_splits(wav_task(tmp_path))
        files = [{*part.groups} for part in splits.parts]
        assert splits.by == "group"
        assert sum(map(len, files)) == len(set.union(*files)) == 12
        assert [part.count() for part in splits.parts] == [{"high": 40, "low": 40}, {"high": 10, "low": 10}, {"high": 10, "low": 10}]
        assert splits.train.ids[1].endswith(".wav:64")

    def test_the_end_of_each_recording_is_the_test_where_there_are_few(self, tmp_path: Path) -> None:
        machines(tmp_path, files=1, samples=6_400)
        splits = read_splits(wav_task(tmp_path))
        assert splits.by == "order"
        assert "1 recordings only" in splits.notes[0]
        assert [part.count() for part in splits.parts] == [{"high": 70, "low": 70}, {"high": 10, "low": 10}, {"high": 20, "low": 20}]
        assert len({*everything(splits).ids}) == 200

    def test_recordings_shorter_than_a_window_are_left_out_with_a_note(self, tmp_path: Path) -> None:
        machines(tmp_path)
        record(tmp_path / "sounds/high/9.wav", hum(63, 500))
        splits = read_splits(wav_task(tmp_path))
        assert len(everything(splits)) == 120
        assert "1 of 13 recordings are shorter" in splits.notes[0]

    def test_a_labels_file_says_what_whose_and_when(self, tmp_path: Path) -> None:
        machines(tmp_path, files=6)
        lines = [f"{word}/{number}.wav,{word[0]},p{number % 3},{number}" for word in ("high", "low") for number in range(6)]
        (tmp_path / "labels.csv").write_text("\n".join(["file,label,person,day", *lines]))
        named = 'labels = "labels.csv"'
        by_person = read_splits(wav_task(tmp_path, data=named, more='[split]\ngroup = "person"'))
        assert [len({*part.groups}) for part in by_person.parts] == [1, 1, 1]
        by_day = read_splits(wav_task(tmp_path, data=named, more='[split]\ntime = "day"'))
        assert by_day.train.times.max() < by_day.validation.times.min() < by_day.test.times.min()
        assert by_day.classes == ("h", "l")

    def test_anomalies_need_no_folders(self, tmp_path: Path) -> None:
        for number in range(5):
            record(tmp_path / "sounds" / f"{number}.wav", hum(640, 500))
        splits = read_splits(wav_task(tmp_path, kind="anomaly"))
        assert everything(splits).count() == {"normal": 50, "anomaly": 0}

    def test_the_same_files_are_the_same_data(self, tmp_path: Path) -> None:
        machines(tmp_path)
        assert read_splits(wav_task(tmp_path)).sha256 == read_splits(wav_task(tmp_path)).sha256


def cut_short(folder: Path) -> None:
    path = folder / "sounds/high/1.wav"
    path.write_bytes(path.read_bytes()[:-101])


def no_wav(folder: Path) -> None:
    (folder / "sounds/high/1.wav").write_bytes(b"RIFF\x00\x00\x00\x00WAVEfmt ")


def floats(folder: Path) -> None:
    path = folder / "sounds/high/1.wav"
    data = bytearray(path.read_bytes())
    data[20] = 3  # WAVE_FORMAT_IEEE_FLOAT
    path.write_bytes(bytes(data))


def another_rate(folder: Path) -> None:
    record(folder / "sounds/low/1.wav", hum(640, 500), rate_hz=16_000)


def stereo(folder: Path) -> None:
    record(folder / "sounds/low/1.wav", hum(640, 500, channels=2))


@pytest.mark.parametrize(
    ("spoil", "settings", "field", "said"),
    [
        pytest.param(cut_short, {}, "high/1.wav", "cut short", id="cut-short"),
        pytest.param(no_wav, {}, "high/1.wav", "no readable PCM WAV", id="only-a-beginning"),
        pytest.param(floats, {}, "high/1.wav", "no readable PCM WAV", id="not-pcm"),
        pytest.param(another_rate, {}, "low/1.wav", "16000 samples a second, not 8000", id="another-rate"),
        pytest.param(None, {"data": "rate_hz = 44100"}, "high/0.wav", "not 44100", id="not-the-rate-asked-for"),
        pytest.param(stereo, {}, "low/1.wav", "2 channels", id="another-number-of-channels"),
        pytest.param(None, {"shape": 'columns = ["a", "b"]'}, "input.columns", "2 of 1", id="more-names-than-channels"),
        pytest.param(None, {"shape": "period_s = 0.1"}, "input.period_s", "by count", id="by-time"),
        pytest.param(None, {"data": "min_rows = 1000"}, "data.folder", "120 windows", id="too-few-windows"),
        pytest.param(None, {"more": '[output]\nclasses = ["high", "mid"]'}, "label", "low", id="undeclared-class"),
    ],
)
def test_bad_recordings_are_told(tmp_path: Path, spoil, settings: dict[str, str], field: str, said: str) -> None:
    machines(tmp_path)
    if spoil is not None:
        spoil(tmp_path)
    with pytest.raises(BadData) as caught:
        read_splits(wav_task(tmp_path, **settings))
    assert caught.value.field == field
    assert said in str(caught.value)


def test_recordings_shorter_than_a_window_are_told(tmp_path: Path) -> None:
    machines(tmp_path, samples=60)
    with pytest.raises(BadData, match="no window of 64 samples"):
        read_splits(wav_task(tmp_path))
