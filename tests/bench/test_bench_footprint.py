"""How the footprint is measured: of a process and its workers, of the installed distributions, and of what grows."""

import os
import subprocess
import sys
from importlib.metadata import PackageNotFoundError

import pytest

from bench.footprint import growth
from bench.footprint.figures import children, look, wakeups
from bench.footprint.install import installed_bytes
from tests.architecture.sources import ROOT


def test_a_worker_counts_with_its_supervisor() -> None:
    alone = look(os.getpid())
    with subprocess.Popen([sys.executable, "-c", "print(flush=True); input()"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as worker:
        worker.stdout.readline()
        both = look(os.getpid())
        assert worker.pid in children(os.getpid())
        assert (both.workers, both.threads) == (alone.workers + 1, alone.threads + 1)
        assert {name.partition(" ")[0] for name in wakeups(os.getpid())} >= {str(os.getpid()), str(worker.pid)}
        worker.stdin.close()


def test_an_extra_is_counted_with_all_that_it_asks_for() -> None:
    found = installed_bytes("agent", ROOT)
    assert {"edgefleet", "numpy", "onnxruntime", "opencv-python-headless", "tuf", "cryptography", "cffi"} <= {*found}
    assert not {"torch", "fastapi", "pytest"} & {*found}
    assert min(found[name] for name in ("numpy", "edgefleet")) > 100_000


def test_what_is_not_installed_is_not_guessed() -> None:
    with pytest.raises(PackageNotFoundError):
        installed_bytes("nothing-of-the-kind", ROOT / "docs", distribution="no-such-distribution")


@pytest.mark.parametrize(
    ("looks", "grown"),
    [
        pytest.param([5.0] * 2 + [10.0] * 18, 0.0, id="a start does not count"),
        pytest.param([10.0, 20.0] * 10, 0.0, id="two bundles of different sizes"),
        pytest.param([100.0 + n for n in range(20)], 0.1553, id="a little each time"),
    ],
)
def test_growth_is_from_the_second_tenth_to_the_last(looks: list[float], grown: float) -> None:
    assert growth(looks) == pytest.approx(grown, abs=0.03)
