"""When the digits demo may call the loop closed, and what it says when not."""

from dataclasses import replace

import pytest

from examples.digits.footage import CAMERAS, FAULTY, HEALTHY, Part, Truth
from examples.digits.verdict import Answer, Count, Seen, accuracy, last_line, reasons


def _film() -> dict[tuple[str, str], Truth]:
    """Ten frames a camera and part but CHOICE; those of camera 3 are fouled from the fault on."""
    return {
        (camera, f"{part}-{n}"): Truth(part, camera == FAULTY and part is not Part.BEFORE, "7")
        for camera in CAMERAS
        for part in (Part.BEFORE, Part.FAULT, Part.TEST)
        for n in range(10)
    }


def _answers(wrong_of_ten: dict[tuple[str, Part], int]) -> list[Answer]:
    bundles = {Part.BEFORE: "champion", Part.FAULT: "champion", Part.CHOICE: "champion", Part.TEST: "challenger"}
    return [
        Answer(camera, name, bundles[truth.part], "1" if int(name.split("-")[1]) < wrong_of_ten.get((camera, truth.part), 0) else "7")
        for (camera, name), truth in _film().items()
    ]


def _seen(**changes) -> Seen:
    closed = Seen(
        champion="champion",
        challenger="challenger",
        truth=_film(),
        answers=_answers({(FAULTY, Part.FAULT): 6, (FAULTY, Part.TEST): 1}),
        counts=[Count(camera, "telemetry", 30, 30, 0, 0) for camera in CAMERAS],
        alarms=[FAULTY],
        labels=100,
        sample_bytes=90_000,
        sample_bytes_allowed=100_000,
        seconds=120.0,
    )
    return replace(closed, **changes)


def test_a_closed_loop_has_no_reasons_and_says_so():
    seen = _seen()
    assert reasons(seen) == []
    assert last_line(seen, []) == {
        "closed": True,
        "accuracy": {"champion_clean": 1.0, "champion_fouled": 0.4, "challenger_fouled": 0.9, "challenger_clean": 1.0},
        "false_alarms": 0,
        "labels": 100,
        "lost": 0,
        "duplicated": 0,
        "seconds": 120.0,
    }


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        pytest.param({"answers": _answers({(FAULTY, Part.FAULT): 6, (FAULTY, Part.TEST): 2})}, "at least 0.87", id="challenger-too-weak"),
        pytest.param({"answers": _answers({(FAULTY, Part.FAULT): 2, (FAULTY, Part.TEST): 1})}, "gains 0.100", id="fault-too-mild"),
        pytest.param(
            {"answers": _answers({(FAULTY, Part.FAULT): 6, (HEALTHY[0], Part.TEST): 1})}, "loses 0.050 on clean", id="forgot-clean-frames"
        ),
        pytest.param({"alarms": []}, "no drift was found", id="no-alarm"),
        pytest.param({"alarms": [HEALTHY[0], FAULTY]}, "1 false alarms", id="false-alarm"),
        pytest.param({"alarms": [FAULTY, FAULTY]}, "1 false alarms", id="alarm-on-the-repaired-camera"),
        pytest.param({"labels": 101}, "101 labels", id="too-many-labels"),
        pytest.param({"labels": 0}, "0 labels", id="no-labels"),
        pytest.param({"sample_bytes": 100_001}, "samples took 100001", id="over-the-byte-budget"),
        pytest.param({"answers": _seen().answers[1:]}, "1 frames or records were lost", id="frame-without-a-result"),
        pytest.param({"answers": [*_seen().answers, _seen().answers[0]]}, "stored twice", id="result-stored-twice"),
        pytest.param({"counts": [*_seen().counts, Count(FAULTY, "events", 5, 4, 0, 0)]}, "1 frames or records were lost", id="record-lost"),
        pytest.param({"counts": [*_seen().counts, Count(FAULTY, "events", 5, 4, 0, 1)]}, "dropped", id="record-dropped"),
        pytest.param({"counts": _seen().counts[1:]}, "does not hold every camera", id="camera-without-a-ledger"),
        pytest.param({"challenger": "nothing"}, "the challenger reads nan", id="challenger-never-answered"),
    ],
)
def test_what_did_not_happen_is_said(changes, reason):
    said = reasons(_seen(**changes))
    assert any(reason in line for line in said), said


def test_answers_count_for_the_bundle_that_gave_them():
    late = replace(_seen().answers[-1], bundle="champion", label="1")
    assert accuracy(_seen(answers=[*_seen().answers[:-1], late])).challenger_fouled == pytest.approx(8 / 9)
