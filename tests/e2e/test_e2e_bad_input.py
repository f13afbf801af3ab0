"""What bad input gets on a running fleet: refused, counted, reported; and nothing else is lost."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from examples.sensors import tables
from hil import watch, workbench
from hil.camera import VirtualCamera, VirtualSensor
from hil.device import DeviceRig
from hil.fleet import FleetRig
from hil.program import installed

WAIT_S = 60.0
SHAPES_TASK = """
[task]
name = "shapes"
[input]
kind = "image"
height = 32
width = 32
channels = 1
[data]
reader = "images"
folder = "shapes"
[train]
epochs = 6
"""

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(280)]


@pytest.fixture(scope="module")
def shapes(tmp_path_factory) -> tuple[Path, Path]:
    """A task of pictures, and a bundle of it."""
    folder = tmp_path_factory.mktemp("shapes")
    task = folder / "task.toml"
    task.write_text(SHAPES_TASK)
    for at in range(120):
        (folder / "shapes" / _shape_of(at)).mkdir(parents=True, exist_ok=True)
        (folder / "shapes" / _shape_of(at) / f"{at}.png").write_bytes(_picture(at, ".png"))
    workbench.build(task, folder / "shapes.bundle", "1.0.0")
    return task, folder / "shapes.bundle"


@pytest.fixture(scope="module")
def fleet(tmp_path_factory, broker, tissue, shapes) -> Iterator[FleetRig]:
    """One for all tests of a broker: each brings a device of its own."""
    with FleetRig(tmp_path_factory.mktemp("fleet") / "home") as rig:
        rig.start_server(broker=broker, tasks=[tissue.task, shapes[0]])
        rig.publish(tissue.bundle)
        rig.publish(shapes[1])
        yield rig


def _shape_of(at: int) -> str:
    return ("disc", "square")[at % 2]


def _picture(at: int, suffix: str) -> bytes:
    rng = np.random.default_rng(at)
    picture = rng.normal(60, 8, (32, 32)).clip(0, 255).astype(np.uint8)
    x, y = (int(v) for v in rng.integers(12, 20, 2))
    if _shape_of(at) == "disc":
        cv2.circle(picture, (x, y), 8, 200, -1)
    else:
        cv2.rectangle(picture, (x - 7, y - 7), (x + 7, y + 7), 200, -1)
    return cv2.imencode(suffix, picture)[1].tobytes()


def _mute(_text: str) -> None:
    return None


def _until_refused(fleet: FleetRig, device: str, wanted: dict[str, int]) -> None:
    """The server has been told by events, and the device's status agrees."""

    def told() -> bool:
        total: dict[str, int] = {}
        for event in fleet.api.items("/events", device=device, kind="input.refused"):
            for reason, count in event["detail"].items():
                total[reason] = total.get(reason, 0) + count
        return total == wanted and fleet.api.get(f"/devices/{device}")["refused"] == wanted

    fleet.wait(told, f"refusals {wanted} of {device}", WAIT_S)


def test_rows_that_are_no_input_are_counted_by_reason_and_the_others_answered(tmp_path, fleet):
    dealt = tables.deal(np.random.default_rng(1))
    good, width = [list(row.values) for row in dealt.rest[:40]], len(dealt.columns)
    sensor = VirtualSensor(tmp_path / "rows.csv", dealt.columns)
    fleet.add_device("sensor-1", f"csv:{sensor.file}", profile="generic-x86-64", task="tissue")
    bad = [["nan", *good[0][1:]], [*good[1][:-1], "inf"], [*good[2][:-1], 1e30], ["many"] * width, good[3][:-1]]
    sensor.write([*good[:20], *bad, *good[20:]])
    _until_refused(fleet, "sensor-1", {"not-finite": 2, "out-of-range": 1, "bad-row": 2})
    fleet.wait(lambda: watch.answered(fleet.api, _mute, {"sensor-1": 40}), "the good rows", WAIT_S)
    results = [int(row["input_id"]) for row in fleet.api.items("/telemetry", device="sensor-1")]
    assert sorted(results) == [*range(1, 21), *range(26, 46)]


def test_a_file_whose_header_does_not_fit_ends_the_agent_and_the_server_knows_why(tmp_path, fleet):
    (tmp_path / "rows.csv").write_text("colour,weight\n1,2\n")
    rig = DeviceRig("strange-1", f"csv:{tmp_path / 'rows.csv'}", fleet.home / "devices" / "strange-1", fleet.logs)
    rig.enrol(fleet.api, fleet.server.state().https_url, profile="generic-x86-64", task="tissue")
    command = [installed("edge-agent"), "run", "--state", rig.state, "--source", rig.source]
    ended = subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=WAIT_S)
    assert (ended.returncode, "Traceback" in ended.stderr) == (2, False)
    assert "lacks the columns" in ended.stderr.splitlines()[-1]
    fleet.wait(lambda: [*fleet.api.items("/events", device="strange-1", kind="agent.failed")], "the last words", WAIT_S)
    told = next(fleet.api.items("/events", device="strange-1", kind="agent.failed"))["detail"]
    assert told["code"] == "missing-columns"
    assert "lacks the columns" in told["message"]
    fleet.wait(lambda: not fleet.api.get("/devices/strange-1")["online"], "the goodbye", WAIT_S)
    assert not [line for line in fleet.api.items("/ledger") if line["lost"]]


def test_a_corrupt_picture_is_skipped_and_the_stream_goes_on(tmp_path, fleet):
    camera = VirtualCamera(tmp_path / "camera")
    fleet.add_device("camera-1", f"camera:{camera.folder}", profile="generic-x86-64", task="shapes")
    pictures = [_picture(1_000 + at, ".jpg") for at in range(30)]
    pictures[7] = pictures[7][: len(pictures[7]) // 3]
    pictures[11] = b"not a picture at all"
    pictures[13] = b""
    for picture in pictures:
        camera.write(picture)
    _until_refused(fleet, "camera-1", {"corrupt-image": 3})
    fleet.wait(lambda: watch.answered(fleet.api, _mute, {"camera-1": 27}), "the good pictures", WAIT_S)
    skipped = {f"{at + 1:06d}.jpg" for at in (7, 11, 13)}
    assert {row["input_id"] for row in fleet.api.items("/telemetry", device="camera-1")} == {
        f"{at:06d}.jpg" for at in range(1, 31)
    } - skipped
