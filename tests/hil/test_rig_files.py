"""What rigs write: frames, rows and the folder of a run."""

import pytest

from hil.camera import VirtualCamera, VirtualSensor
from hil.errors import BadHome
from hil.fleet import fresh_home


def test_frames_are_numbered_and_only_whole_ones_have_an_image_name(tmp_path):
    camera = VirtualCamera(tmp_path / "camera")
    assert [camera.write(b"a"), camera.write(b"b")] == ["000001.jpg", "000002.jpg"]
    assert {path.name: path.read_bytes() for path in camera.folder.iterdir()} == {"000001.jpg": b"a", "000002.jpg": b"b"}


def test_a_sensor_begins_with_its_header_and_appends_whole_lines(tmp_path):
    sensor = VirtualSensor(tmp_path / "rows.csv", ["x", "y"])
    sensor.write([[1.5, 2], ["", "nan"]])
    assert sensor.file.read_text() == "x,y\n1.5,2\n,nan\n"
    assert sensor.written == 2


def test_a_run_wipes_what_an_earlier_run_left(tmp_path):
    home = fresh_home(tmp_path / "home")
    (home / "server").mkdir()
    assert not (fresh_home(home) / "server").exists()


def test_a_run_leaves_a_foreign_folder_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(BadHome, match="left alone"):
        fresh_home(tmp_path)
    assert (tmp_path / "thesis.txt").read_text() == "precious"
