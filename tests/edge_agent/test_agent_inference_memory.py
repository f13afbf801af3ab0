"""A model lies in the engine once and nowhere else, and where memory does not suffice for two workers, one gives way to the other."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from edge_agent.clock import SystemClock
from edge_agent.errors import Reject, Retry
from edge_agent.inference import memory
from edge_agent.inference.child import Deadlines
from edge_agent.inference.host import InferenceHost
from firmware_profiles import catalog
from fleet_contract import limits
from fleet_contract.bundle import Bundle
from fleet_contract.manifest import Limits
from tests.fakes import agent_run_models as models

PROFILE = catalog.load("generic-x86-64")
HIDDEN = 3_000
"""Squared, four bytes each: 36 MB."""
GIVEN = "/unit.slice"
GIB = limits.MIB * limits.KIB

V2 = {"proc/self/cgroup": f"0::{GIVEN}\n"}
V1 = {"proc/self/cgroup": f"4:memory:{GIVEN}\n3:cpu,cpuacct:/else\n0::/\n"}
FREE = {"proc/meminfo": f"MemTotal: {4 * GIB // 1024} kB\nMemAvailable: {GIB // 1024} kB\n"}


def _v2(folder: str, most: str, used: int, stat: str = "") -> dict[str, str]:
    at = f"sys/fs/cgroup{folder}"
    return {f"{at}/memory.max": f"{most}\n", f"{at}/memory.current": f"{used}\n", f"{at}/memory.stat": stat}


def _v1(folder: str, most: int, used: int, stat: str = "") -> dict[str, str]:
    at = f"sys/fs/cgroup/memory{folder}"
    return {f"{at}/memory.limit_in_bytes": f"{most}\n", f"{at}/memory.usage_in_bytes": f"{used}\n", f"{at}/memory.stat": stat}


@pytest.mark.parametrize(
    ("files", "available"),
    [
        pytest.param({}, None, id="a system that says nothing"),
        pytest.param(FREE, GIB, id="no control groups"),
        pytest.param(FREE | V2 | _v2(GIVEN, "max", 7), GIB, id="a group without a limit"),
        pytest.param(FREE | V2 | _v2(GIVEN, "1000", 700), 300, id="a group's limit"),
        pytest.param(FREE | V2 | _v2(GIVEN, "1000", 700, "inactive_file 100\nactive_file 50\n"), 425, id="cached files can go"),
        pytest.param(FREE | V2 | _v2(GIVEN, "max", 7) | _v2("", "1000", 900), 100, id="the limit of a group around it"),
        pytest.param(FREE | V2 | _v2(GIVEN, "1000", 1200), 0, id="more than the limit is used"),
        pytest.param(FREE | V1 | _v1(GIVEN, 1000, 700, "inactive_file 1\ntotal_inactive_file 100\n"), 400, id="version 1"),
        pytest.param(FREE | V1 | _v1(GIVEN, 2**63 - 4096, 700), GIB, id="version 1 without a limit"),
        pytest.param(V1 | _v1("", 1000, 700), 300, id="a container that sees its own group at the top"),
    ],
)
def test_what_may_still_be_taken(tmp_path: Path, files: dict[str, str], available: int | None) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert memory.available_bytes(tmp_path) == available


@pytest.fixture
def tight() -> Iterator[InferenceHost]:
    """A board whose memory is never enough for two workers."""
    host = InferenceHost(PROFILE, SystemClock(), Deadlines(infer_s=5.0), available_bytes=lambda: 0)
    host.activate(Bundle(models.bundle()))
    yield host
    host.close()


class Asking(Bundle):
    """Puts a request to the host whenever a model is read for a new worker."""

    def ask(self, host: InferenceHost) -> "Asking":
        self.host, self.heard = host, []
        return self

    def read(self, entry: str) -> bytes:
        if entry.endswith(".onnx"):
            try:
                self.heard.append(self.host.infer({"input": models.KNOWN_INPUTS}).sha256)
            except Retry as error:
                self.heard.append(error.code)
        return super().read(entry)


def test_the_worker_that_serves_gives_way_to_one_that_proves(tight: InferenceHost) -> None:
    active = tight.active().sha256
    bundle = Asking(models.bundle(version="2.0.0")).ask(tight)
    tight.prove(bundle)
    assert bundle.heard == [active, "no-model"]  # while the bundle is opened; while its worker runs
    assert tight.infer({"input": models.KNOWN_INPUTS}).sha256 == active


def test_it_comes_back_when_the_other_fails(tight: InferenceHost) -> None:
    active = tight.active().sha256
    with pytest.raises(Reject):
        tight.prove(Bundle(models.bundle({"fp32": models.linear(2 * models.WEIGHT)})))
    assert tight.infer({"input": models.KNOWN_INPUTS}).sha256 == active


def test_a_swap_starts_the_new_worker_in_place_of_the_old_one(tight: InferenceHost) -> None:
    bundle = Asking(models.bundle(version="2.0.0")).ask(tight)
    tight.activate(bundle)
    assert bundle.heard[1:] == ["no-model", "no-model"]  # proof and switch
    assert tight.infer({"input": models.KNOWN_INPUTS}).sha256 == bundle.sha256


def test_with_enough_memory_nothing_gives_way() -> None:
    host = InferenceHost(PROFILE, SystemClock(), available_bytes=lambda: GIB)
    host.activate(Bundle(models.bundle()))
    active = host.active().sha256
    bundle = Asking(models.bundle(version="2.0.0")).ask(host)
    host.prove(bundle)
    host.close()
    assert bundle.heard == [active, active]


def test_a_worker_that_starts_again_gets_its_model_from_the_disk_and_never_a_changed_one(tmp_path: Path) -> None:
    archive, slot, other = models.bundle(), tmp_path / "a", tmp_path / "b"
    slot.write_bytes(archive)
    other.write_bytes(archive)
    host = InferenceHost(PROFILE, SystemClock())
    host.activate(Bundle(slot))
    model = models.linear()
    slot.write_bytes(archive.replace(model, model[:-1] + bytes([model[-1] ^ 1])))

    np.testing.assert_allclose(host.infer({"input": models.KNOWN_INPUTS}).outputs["logits"], models.KNOWN_LOGITS, atol=1e-5)
    os.kill(host.worker_pids[0], signal.SIGKILL)
    codes = []
    for _ in range(2):
        with pytest.raises(Retry) as lost:
            host.infer({"input": models.KNOWN_INPUTS})
        codes.append(lost.value.code)
    host.activate(Bundle(other))  # it came again, to the other slot
    answer = host.infer({"input": models.KNOWN_INPUTS})
    host.close()

    assert codes == ["worker-crashed", "bad-digest"]
    np.testing.assert_allclose(answer.outputs["logits"], models.KNOWN_LOGITS, atol=1e-5)


def _deep(hidden: int) -> tuple[bytes, np.ndarray]:
    """Two values to `hidden`, to as many, to two: most of its bytes are one matrix. And its answers to the known inputs."""
    chance = np.random.default_rng(1)
    shapes = {"first": (2, hidden), "middle": (hidden, hidden), "last": (hidden, 2)}
    weights = {name: chance.standard_normal(shape, np.float32) / np.float32(np.sqrt(shape[0])) for name, shape in shapes.items()}
    return models.stacked(weights), models.KNOWN_INPUTS @ weights["first"] @ weights["middle"] @ weights["last"]


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="needs Linux's account of a process's memory")
def test_a_serving_device_holds_a_model_once(tmp_path: Path) -> None:
    model, answers = _deep(HIDDEN)
    archives = {
        "small": models.bundle(),
        "large": models.bundle({"fp32": model}, answers=answers, tolerance=0.1, limits=Limits(memory_mb=512)),
    }
    for name, archive in archives.items():
        (tmp_path / name).write_bytes(archive)
    command = [sys.executable, "-m", "tests.fakes.agent_host_process", *(str(tmp_path / name) for name in archives)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    grown = {name: value / len(model) for name, value in json.loads(done.stdout).items()}

    assert grown["supervisor_bytes"] < 0.3
    assert grown["supervisor_peak_bytes"] < 1.5
    assert grown["worker_bytes"] < 1.3
    assert grown["worker_peak_bytes"] < 3.5
