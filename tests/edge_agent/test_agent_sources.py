"""What a camera's folder, a video and a CSV file yield, what they refuse, and where they go on after a restart."""

import json
import os
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge_agent.errors import Fatal
from edge_agent.ports import Input
from edge_agent.sources.camera import Camera
from edge_agent.sources.csv_rows import CsvFormat
from edge_agent.sources.folder import PictureFolder
from edge_agent.sources.row_files import RowFile
from fleet_contract import images, limits
from fleet_contract.inputs import ImageInput, VectorInput
from tests.fakes.agent_run_world import FakeClock

GREY = ImageInput(tensor="input", height=8, width=8, channels=1)
COLOUR = ImageInput(tensor="input", height=8, width=8, channels=3)
VECTOR = VectorInput(tensor="input", columns=["t", "p"], low=[0.0, 0.0], high=[9.0, 9.0])


def _encode(pixels: np.ndarray, suffix: str = ".jpg") -> bytes:
    return cv2.imencode(suffix, pixels)[1].tobytes()


def _scene(height: int = 32, width: int = 32) -> np.ndarray:
    ramp = np.linspace(0, 255, width, dtype=np.float32)
    return np.repeat(ramp[None], height, axis=0).astype(np.uint8)


def _drain(source, spec, after: str | None = None) -> list[Input]:
    """Everything there is just now."""
    taken = []
    for found in source.read(spec, after):
        if found is None:
            return taken
        taken.append(found)
    return taken


class TestPictures:
    @pytest.mark.parametrize("suffix", [".jpg", ".png"])
    def test_grey_is_resized_by_area(self, suffix: str) -> None:
        values = images.decode(_encode(_scene(), suffix), GREY)
        assert (values.shape, values.dtype) == ((1, 8, 8), np.uint8)
        expected = cv2.resize(_scene(), (8, 8), interpolation=cv2.INTER_AREA)
        np.testing.assert_allclose(values[0], expected, atol=3)

    def test_colour_comes_as_rgb_planes(self) -> None:
        blue = np.zeros((8, 8, 3), np.uint8)
        blue[:, :, 0] = 255
        values = images.decode(_encode(blue, ".png"), COLOUR)
        assert values.mean(axis=(1, 2)).tolist() == [0, 0, 255]

    def test_the_same_size_is_not_resampled(self) -> None:
        scene = _scene(8, 8)
        np.testing.assert_array_equal(images.decode(_encode(scene, ".png"), GREY)[0], scene)

    JPEG, PNG = _encode(_scene(200, 200)), _encode(_scene(200, 200), ".png")

    @pytest.mark.parametrize(
        "data",
        [
            pytest.param(b"", id="empty"),
            pytest.param(b"hello, I am not a picture", id="text"),
            pytest.param(b"GIF89a" + bytes(30), id="another format"),
            pytest.param(JPEG[:2], id="JPEG, start only"),
            pytest.param(JPEG[:40], id="JPEG, headers torn"),
            pytest.param(JPEG[: len(JPEG) // 2], id="JPEG, second half lost"),
            pytest.param(JPEG[:-2], id="JPEG, end lost"),
            pytest.param(JPEG[:2] + b"\x00" + JPEG[3:], id="JPEG, segment overwritten"),
            pytest.param(PNG[:20], id="PNG, header torn"),
            pytest.param(PNG[: len(PNG) // 2], id="PNG, second half lost"),
            pytest.param(PNG[:60] + b"\xff\xff\xff\xff" + PNG[64:], id="PNG, bytes flipped"),
            pytest.param(PNG[:33] + b"\xff" + PNG[34:], id="PNG, a chunk of four gigabytes"),
            pytest.param(JPEG[:2] + b"\xff" * 5_000, id="JPEG, fill bytes to the end"),
        ],
    )
    def test_a_corrupt_picture_is_refused(self, data: bytes) -> None:
        with pytest.raises(images.Unreadable) as refused:
            images.decode(data, GREY)
        assert refused.value.reason == "corrupt-image"

    def test_an_animated_png_never_reaches_the_decoder(self) -> None:
        """OpenCV takes 40 bytes for each of its pixels; some crash it."""
        animated = self.PNG[:33] + b"\0\0\0\x08acTL" + (2).to_bytes(4, "big") + bytes(4) + b"\xf3\x8d\x93\x70" + self.PNG[33:]
        assert cv2.imdecode(np.frombuffer(animated, np.uint8), cv2.IMREAD_COLOR) is not None
        with pytest.raises(images.Unreadable, match="animated") as refused:
            images.check(animated)
        assert refused.value.reason == "corrupt-image"

    def test_a_thumbnails_end_does_not_pass_for_the_pictures(self) -> None:
        thumbnail = b"\xff\xe1" + (2 + 4).to_bytes(2, "big") + b"x\xff\xd9y"
        whole = self.JPEG[:2] + thumbnail + self.JPEG[2:]
        images.check(whole)
        with pytest.raises(images.Unreadable):
            images.check(whole[: len(whole) // 2])

    def test_a_giant_is_refused_before_it_is_decoded(self) -> None:
        giant = bytearray(self.PNG)
        giant[16:24] = (100_000).to_bytes(4, "big") * 2
        with pytest.raises(images.Unreadable) as refused:
            images.decode(bytes(giant), GREY)
        assert refused.value.reason == "image-too-large"

    def test_what_the_model_saw_can_be_kept(self) -> None:
        values = images.decode(_encode(np.dstack([_scene()] * 3), ".png"), COLOUR)
        media_type, data = images.encode(values, COLOUR)
        assert media_type == "image/png"
        np.testing.assert_array_equal(images.decode(data, COLOUR), np.rint(values))

    def test_what_is_kept_fits_a_sample(self) -> None:
        noise = np.random.default_rng(1).uniform(0, 255, (3, 224, 224)).astype(np.float32)
        media_type, data = images.encode(noise, COLOUR)
        assert media_type == "image/jpeg"
        assert len(data) < 224 * 224 * 3


class TestFolder:
    def _camera(self, folder: Path) -> PictureFolder:
        return PictureFolder(folder, FakeClock())

    def test_pictures_come_in_name_order_and_nothing_else_does(self, tmp_path: Path) -> None:
        for name in ("b.jpg", "a.PNG", "c.jpeg", "notes.txt", ".hidden.jpg", "d.jpg.part"):
            (tmp_path / name).write_bytes(_encode(_scene()))
        assert [taken.id for taken in _drain(self._camera(tmp_path), GREY)] == ["a.PNG", "b.jpg", "c.jpeg"]

    def test_a_name_that_is_not_utf8_is_passed_over(self, tmp_path: Path) -> None:
        (tmp_path / os.fsdecode(b"\xff.jpg")).write_bytes(_encode(_scene()))
        (tmp_path / "\u00e9.jpg").write_bytes(_encode(_scene()))
        assert [taken.id for taken in _drain(self._camera(tmp_path), GREY)] == ["\u00e9.jpg"]

    def test_it_goes_on_after_its_cursor(self, tmp_path: Path) -> None:
        for name in ("1.jpg", "2.jpg", "3.jpg"):
            (tmp_path / name).write_bytes(_encode(_scene()))
        first = _drain(self._camera(tmp_path), GREY)[0]
        assert [taken.id for taken in _drain(self._camera(tmp_path), GREY, first.cursor)] == ["2.jpg", "3.jpg"]

    def test_a_picture_that_is_renamed_into_place_is_read_once(self, tmp_path: Path) -> None:
        stream = self._camera(tmp_path).read(GREY, None)
        assert next(stream) is None
        (tmp_path / "1.part").write_bytes(_encode(_scene()))
        assert next(stream) is None
        (tmp_path / "1.part").rename(tmp_path / "1.jpg")
        assert next(stream).id == "1.jpg"
        assert next(stream) is None

    def test_a_corrupt_picture_is_told_and_passed(self, tmp_path: Path) -> None:
        (tmp_path / "1.jpg").write_bytes(_encode(_scene())[:100])
        (tmp_path / "2.jpg").write_bytes(_encode(_scene()))
        bad, good = _drain(self._camera(tmp_path), GREY)
        assert (bad.refusal, bad.values, bad.cursor) == ("corrupt-image", None, "1.jpg")
        assert good.refusal is None

    def test_a_giant_file_is_never_loaded(self, tmp_path: Path) -> None:
        with (tmp_path / "1.jpg").open("wb") as file:
            file.truncate(limits.MAX_IMAGE_BYTES + 1)
        (giant,) = _drain(self._camera(tmp_path), GREY)
        assert (giant.refusal, giant.data) == ("image-too-large", b"")

    def test_a_folder_in_place_of_a_picture_is_told_and_passed(self, tmp_path: Path) -> None:
        (tmp_path / "1.jpg").mkdir()
        (odd,) = _drain(self._camera(tmp_path), GREY)
        assert odd.refusal == "unreadable-file"

    def test_a_picture_too_large_for_a_sample_is_carried_as_the_model_sees_it(self, tmp_path: Path) -> None:
        noise = np.random.default_rng(1).integers(0, 255, (400, 400), np.uint8)
        (tmp_path / "1.png").write_bytes(_encode(noise, ".png"))
        (taken,) = _drain(self._camera(tmp_path), GREY)
        assert (taken.data, taken.values.shape, taken.refusal) == (b"", (1, 8, 8), None)

    def test_a_lost_folder_is_fatal(self, tmp_path: Path) -> None:
        with pytest.raises(Fatal, match="cannot be read"):
            next(self._camera(tmp_path / "gone").read(GREY, None))

    def test_a_model_of_columns_does_not_fit(self, tmp_path: Path) -> None:
        with pytest.raises(Fatal, match="use a csv:"):
            next(self._camera(tmp_path).read(VECTOR, None))


def _write_video(path: Path, frames: int) -> None:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, (32, 32))
    for _ in range(frames):
        writer.write(np.dstack([_scene()] * 3))
    writer.release()


def test_a_video_is_read_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "v.avi"
    _write_video(path, 5)
    camera = Camera(str(path), FakeClock())
    taken = [found for found in islice(camera.read(GREY, None), 20) if found is not None]
    camera.close()
    assert len({found.id for found in taken}) == 5
    assert all(found.cursor is None and found.values.shape == (1, 8, 8) for found in taken)


def test_a_file_that_is_no_video_is_fatal(tmp_path: Path) -> None:
    (tmp_path / "v.avi").write_text("not a video")
    camera = Camera(str(tmp_path / "v.avi"), FakeClock())
    with pytest.raises(Fatal, match="no video"):
        next(camera.read(GREY, None))
    camera.close()


def test_a_camera_that_is_not_there_is_tried_once_a_second(tmp_path: Path) -> None:
    clock, path = FakeClock(), tmp_path / "v.avi"
    camera = Camera(str(path), clock)
    stream = camera.read(GREY, None)
    assert next(stream) is None
    _write_video(path, 1)
    clock.elapsed_s = 0.9
    assert next(stream) is None
    clock.elapsed_s = 1.0
    assert next(stream).values.shape == (1, 8, 8)
    camera.close()


class TestRows:
    def _rows(self, path: Path, text: str) -> RowFile:
        path.write_text(text)
        return RowFile(path, FakeClock(), CsvFormat)

    def test_columns_are_found_by_name(self, tmp_path: Path) -> None:
        source = self._rows(tmp_path / "s.csv", "p,other,t\n1,x,2\n3,y,4\n")
        taken = _drain(source, VECTOR)
        source.close()
        assert [found.values.tolist() for found in taken] == [[2, 1], [4, 3]]
        assert [(found.id, found.cursor) for found in taken] == [("1", "1"), ("2", "2")]
        assert json.loads(taken[0].data) == [2.0, 1.0]

    @pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
    def test_the_delimiter_is_the_one_that_shows_the_wanted_columns(self, tmp_path: Path, delimiter: str) -> None:
        source = self._rows(tmp_path / "s.csv", '\ufeffp~"a,b;c|d"~t\r\n1~x~true\r\n'.replace("~", delimiter))
        (found,) = _drain(source, VECTOR)
        source.close()
        assert found.values.tolist() == [1, 1]

    @pytest.mark.parametrize(
        ("header", "says"),
        [
            pytest.param("t,x\n", "lacks the columns p", id="one missing"),
            pytest.param("a,b\n", "lacks the columns t, p", id="all missing"),
            pytest.param("\n", "lacks the columns t, p", id="an empty header"),
            pytest.param("t,p,t\n", "columns t more than once", id="one twice"),
            pytest.param('"t,p\n', "no readable header", id="a torn quote"),
        ],
    )
    def test_a_header_that_does_not_fit_is_fatal(self, tmp_path: Path, header: str, says: str) -> None:
        source = self._rows(tmp_path / "s.csv", header)
        with pytest.raises(Fatal, match=says):
            _drain(source, VECTOR)
        source.close()

    @pytest.mark.parametrize(
        "row",
        [
            pytest.param("1", id="too few cells"),
            pytest.param("1,2,3", id="too many cells"),
            pytest.param("1,", id="empty cell"),
            pytest.param("1,warm", id="text"),
            pytest.param("1,1_0", id="Python's underscore"),
            pytest.param('1,"2', id="torn quote"),
        ],
    )
    def test_a_bad_row_is_told_and_passed(self, tmp_path: Path, row: str) -> None:
        source = self._rows(tmp_path / "s.csv", f"t,p\n{row}\n5,6\n")
        bad, good = _drain(source, VECTOR)
        source.close()
        assert (bad.refusal, bad.values, bad.cursor) == ("bad-row", None, "1")
        assert good.values.tolist() == [5, 6]

    def test_bytes_that_are_no_text_are_a_bad_row(self, tmp_path: Path) -> None:
        (tmp_path / "s.csv").write_bytes(b"t,p\n\xff\xfe,1\n5,6\n")
        source = RowFile(tmp_path / "s.csv", FakeClock(), CsvFormat)
        assert [found.refusal for found in _drain(source, VECTOR)] == ["bad-row", None]
        source.close()

    @pytest.mark.parametrize("cell", ["nan", "inf", "-inf", "1e300"])
    def test_numbers_that_are_not_finite_are_left_to_validation(self, tmp_path: Path, cell: str) -> None:
        source = self._rows(tmp_path / "s.csv", f"t,p\n{cell},1\n")
        (found,) = _drain(source, VECTOR)
        source.close()
        assert found.refusal is None
        assert not np.isfinite(found.values[0])

    def test_it_goes_on_after_its_cursor(self, tmp_path: Path) -> None:
        source = self._rows(tmp_path / "s.csv", "t,p\n1,1\n\n2,2\n3,3\n")
        assert [found.id for found in _drain(source, VECTOR, "1")] == ["2", "3"]
        source.close()

    def test_it_follows_growth_and_leaves_a_half_line(self, tmp_path: Path) -> None:
        path = tmp_path / "s.csv"
        source = self._rows(path, "")
        stream = source.read(VECTOR, None)
        assert next(stream) is None
        for text, expected in [("t,p", None), ("\n1,1\n2,", "1"), ("", None), ("2", None), ("5\n", "2")]:
            with path.open("a") as file:
                file.write(text)
            found = next(stream)
            assert (found and found.id) == expected
        assert found.values.tolist() == [2, 25]
        source.close()

    def test_an_endless_line_is_one_bad_row(self, tmp_path: Path) -> None:
        source = self._rows(tmp_path / "s.csv", "t,p\n" + "1" * (2 * limits.MAX_CSV_LINE_CHARS + 5) + "\n5,6\n")
        found = _drain(source, VECTOR)
        source.close()
        assert [(row.refusal, row.id) for row in found] == [("bad-row", "1"), (None, "2")]
        assert len(found[0].data) < limits.MAX_RECORD_BYTES

    def test_a_model_of_pictures_does_not_fit(self, tmp_path: Path) -> None:
        with pytest.raises(Fatal, match="use a camera:"):
            next(self._rows(tmp_path / "s.csv", "t,p\n").read(GREY, None))
