"""The demo's frames: which scans appear where, and what the fault does to them."""

import cv2
import numpy as np

from examples.digits import scans
from examples.digits.footage import CAMERAS, FAULTY, HEALTHY, Part, Studio, plan


def _ids(listed) -> set[int]:
    return {id(scan) for scan in listed}


def test_every_scan_is_used_and_no_camera_sees_a_training_scan():
    dealt = plan(np.random.default_rng(0))
    filmed = set().union(*(_ids(listed) for part in dealt.parts.values() for listed in part.values()))
    assert len(filmed) + len(dealt.training) == 1_797
    assert not filmed & _ids(dealt.training)


def test_the_fouled_test_scans_appear_nowhere_else():
    parts = plan(np.random.default_rng(0)).parts
    others = [listed for part, cameras in parts.items() for camera, listed in cameras.items() if (part, camera) != (Part.TEST, FAULTY)]
    assert not _ids(parts[Part.TEST][FAULTY]) & set().union(*map(_ids, others))
    assert len(parts[Part.TEST][FAULTY]) >= 250


def test_healthy_cameras_read_the_same_scans_with_both_models():
    parts = plan(np.random.default_rng(0)).parts
    assert all(parts[Part.TEST][camera] is parts[Part.BEFORE][camera] for camera in HEALTHY)


def test_the_fault_darkens_one_side_and_blurs():
    scan = scans.all_scans(np.random.default_rng(0))[0]
    clean = scans.render(scan, np.random.default_rng(1))
    fouled = scans.foul(clean).astype(float)
    assert clean.shape == fouled.shape == (scans.SIDE, scans.SIDE)
    assert fouled[:, :8].mean() > 1.8 * fouled[:, -8:].mean()
    assert cv2.Laplacian(fouled, cv2.CV_64F).var() < 0.05 * cv2.Laplacian(clean.astype(float), cv2.CV_64F).var()


def test_film_writes_decodable_frames_keeps_the_truth_and_runs_incidents(tmp_path):
    dealt = plan(np.random.default_rng(0))
    short = {camera: listed[:2] for camera, listed in dealt.parts[Part.FAULT].items()}
    studio = Studio.at(tmp_path, type(dealt)(dealt.training, {Part.FAULT: short}), np.random.default_rng(0))
    happened = []
    studio.film(Part.FAULT, incidents={1: lambda: happened.append(studio.written()[FAULTY])})
    assert happened == [1]
    assert studio.written() == dict.fromkeys(CAMERAS, 2)
    frame = cv2.imread(str(tmp_path / FAULTY / "000002.jpg"), cv2.IMREAD_GRAYSCALE)
    assert frame.shape == (scans.SIDE, scans.SIDE)
    assert studio.truth[FAULTY, "000002.jpg"].fouled
    assert not studio.truth[HEALTHY[0], "000001.jpg"].fouled
