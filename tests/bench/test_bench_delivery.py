"""The delivery benchmark runs, small, over real processes; its figures mean something on the real size alone."""

import json
import subprocess
import sys

import pytest

from fleet_server.mqtt import mosquitto
from tests.architecture.sources import ROOT


def bench(*options: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-m", "bench", "delivery", *options], capture_output=True, text=True, timeout=120, cwd=ROOT)


@pytest.mark.e2e
@pytest.mark.skipif(mosquitto.find("") is None, reason="mosquitto is not installed")
def test_every_device_verifies_the_file_and_the_server_sends_it_once() -> None:
    done = bench("--megabytes", "1", "--devices", "1", "3")
    told = json.loads(done.stdout.splitlines()[-1])
    sent = next(aim for aim in told["aims"] if "bytes out of the last" in aim["name"])
    assert (told["bench"], sent["holds"]) == ("delivery", True), done.stderr


@pytest.mark.parametrize("option", [["--megabytes", "0"], ["--megabytes", "many"], ["--devices", "0"], ["--fast"]], ids=" ".join)
def test_what_cannot_be_measured_is_refused(option: list[str]) -> None:
    done = bench(*option)
    assert done.returncode == 2
    assert option[0] in done.stderr
