"""However many signals come, and whatever the main thread holds when they do: the program ends."""

import os
import signal
import subprocess
import sys

PROGRAM = """
import threading
from fleet_server import signals

signals.hold()
stop = threading.Event()
signals.pass_to(stop.set)
print("ready", flush=True)
while not stop.wait(0.00001):
    pass
for _ in range(2000):  # a handler in this thread would meet its lock held
    stop.set()
print("ended", flush=True)
"""


def test_a_storm_of_signals_ends_a_program_whose_main_thread_waits() -> None:
    with subprocess.Popen([sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE, text=True) as program:
        assert program.stdout is not None
        assert program.stdout.readline() == "ready\n"
        while program.poll() is None:
            os.kill(program.pid, signal.SIGTERM)
        assert (program.stdout.read(), program.returncode) == ("ended\n", 0)
