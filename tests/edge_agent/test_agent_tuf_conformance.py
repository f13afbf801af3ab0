"""The agent's trust code under theupdateframework's own suite, all of it. Takes three minutes, so only where it is asked for."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SUITE = "EDGEFLEET_TUF_CONFORMANCE"
HOW = (
    f"set {SUITE} to a checkout of https://github.com/theupdateframework/tuf-conformance (docs/conformance.md; make conformance SUITE=DIR)"
)


@pytest.mark.e2e
@pytest.mark.timeout(1800)
@pytest.mark.skipif(not os.environ.get(SUITE), reason=HOW)
@pytest.mark.skipif(not shutil.which("faketime"), reason="needs Debian's faketime")
def test_every_test_of_the_suite_passes() -> None:
    suite = Path(os.environ[SUITE])
    agent = Path(sys.executable).with_name("edge-agent")
    command = [_python(suite), "-m", "pytest", "-q", "tuf_conformance", "--entrypoint", f"{agent} --log-level debug tuf"]
    command += ["-p", "no:cacheprovider"]
    done = subprocess.run(command, cwd=suite, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-4_000:]
    assert re.search(r"^[1-9]\d+ passed in", done.stdout, re.MULTILINE), "some were skipped or expected to fail"


def _python(suite: Path) -> str:
    """The suite pins its own versions: it lives in an environment of its own, `venv` beside its code, if there is one."""
    own = suite / "venv" / "bin" / "python"
    return str(own) if own.exists() else sys.executable
