"""Processes beside the server: started again when they end, taken along at the end."""

import os
import signal
import sys
from pathlib import Path

import pytest

from fleet_contract.backoff import Backoff
from fleet_server.children import Child
from tests.fakes.server_broker import until

FOREVER = (sys.executable, "-c", "import signal; signal.pause()")


@pytest.fixture
def child() -> Child:
    return Child("sleeper", FOREVER, backoff=Backoff(0.0, 0.0))


def test_one_that_ends_is_started_again(child: Child, caplog: pytest.LogCaptureFixture) -> None:
    child.start()
    until(lambda: child.pid is not None)
    first = child.pid
    assert first is not None
    os.kill(first, signal.SIGKILL)
    until(lambda: child.pid not in (None, first))
    child.close()
    assert "sleeper ended by signal 9" in caplog.text


def test_the_last_is_gone_after_close(child: Child) -> None:
    child.start()
    until(lambda: child.pid is not None)
    pid = child.pid
    child.close()
    assert not Path(f"/proc/{pid}").exists()


def test_one_that_cannot_be_started_is_tried_again_until_close() -> None:
    child = Child("nothing", ("/nowhere/at/all",), backoff=Backoff(0.0, 0.0))
    child.start()
    child.close()
    assert child.pid is None
