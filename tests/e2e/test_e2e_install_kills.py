"""A little of `python -m bench install-kills`: a real supervisor and its worker are killed in the middle of updates, of good bundles and of
bad ones, and recover by themselves."""

import pytest

from bench import install_kills, syscalls

pytestmark = pytest.mark.e2e


def _held(report: install_kills.Report) -> None:
    assert report.holds, report.as_json()


def test_sigkill_at_random_moments() -> None:
    _held(install_kills.run(runs=3, seed=3, workers=2, syscalls=False, every=1))


def test_sigkill_at_system_calls() -> None:
    obstacle = syscalls.obstacle()
    if obstacle is not None:
        pytest.skip(obstacle)
    _held(install_kills.run(runs=0, seed=0, workers=2, syscalls=True, every=107))
