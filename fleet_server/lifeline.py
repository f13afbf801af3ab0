"""Start a program that ends with its parent, however that ends: `python -m fleet_server.lifeline PARENT_PID PROGRAM ARGUMENT...`.

The process id stays the same through the exec, and no code of ours runs between a fork and an exec in a process with threads.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def command(parent_pid: int, *program: str) -> list[str]:
    return [sys.executable, "-m", "fleet_server.lifeline", str(parent_pid), *program]


def main() -> None:
    parent_pid, *program = sys.argv[1:]
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() == int(parent_pid):  # else the parent died before the line above
        os.execv(program[0], program)


if __name__ == "__main__":
    main()
