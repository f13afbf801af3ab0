"""However many signals come, and whatever the main thread holds when they do: the program does what it has to, and ends."""

import os
import select
import signal
import subprocess
import sys

PROGRAM = """
import sys, threading
from fleet_contract.signals import Signals

stop = threading.Event()
Signals().pass_to(stop.set)
print("ready", flush=True)
while not stop.wait(0.00001):
    pass
for _ in range(2000):  # a handler in this thread would meet its lock held
    stop.set()
print("ended", flush=True)
sys.stdin.read()
"""

PARENT = """
import subprocess, sys
from fleet_contract.signals import Signals

Signals()
child = subprocess.Popen(["sleep", "60"])
child.terminate()
sys.exit(-child.wait())
"""


def test_a_storm_of_signals_ends_a_program_whose_main_thread_waits() -> None:
    with subprocess.Popen([sys.executable, "-c", PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as program:
        assert program.stdout is not None and program.stdin is not None
        assert program.stdout.readline() == "ready\n"
        while not select.select([program.stdout], [], [], 0)[0]:
            os.kill(program.pid, signal.SIGTERM)
        assert program.stdout.read(6) == "ended\n"
        program.stdin.close()
        assert program.wait() == 0


def test_what_is_started_meanwhile_hears_signals_as_ever() -> None:
    assert subprocess.run([sys.executable, "-c", PARENT], timeout=60).returncode == signal.SIGTERM
