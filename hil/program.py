"""A real program as a child process: its own session, its output in a file, ended in good order or by SIGKILL."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from hil.errors import ProgramFailed

_STOP_S = 15.0
_TAIL_CHARS = 1_500


def installed(name: str) -> str:
    """The console script `name` beside the running interpreter. Raises ProgramFailed when it is not installed."""
    script = Path(sys.executable).with_name(name)
    if not script.exists():
        raise ProgramFailed(
            f"{script} does not exist: install edgefleet into this environment (pip install -e '.[agent,server,tools,hil]')"
        )
    return str(script)


class Program:
    """Started by constructing it. Its own process group, so that `kill` and `close` reach the children that it leaves behind."""

    def __init__(self, name: str, command: Sequence[str], log: Path) -> None:
        self.name, self.log = name, log
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as out:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def check(self) -> None:
        """Raises ProgramFailed, with the end of its output, when it has ended."""
        if not self.running:
            raise ProgramFailed(f"{self.name} ended with code {self._process.returncode}; the end of {self.log}:\n{self.tail()}")

    def tail(self) -> str:
        return self.log.read_text(errors="replace")[-_TAIL_CHARS:]

    def kill(self) -> None:
        """SIGKILL to this process alone, as a power cut or the kernel would; its children are on their own."""
        self._process.kill()
        self._process.wait()

    def close(self) -> None:
        """SIGTERM, then SIGKILL to the group for whatever is left."""
        if self.running:
            self._process.terminate()
        try:
            self._process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            pass
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self._process.wait()


def run(name: str, command: Sequence[str], *, on_line: Callable[[str], None] = lambda line: None) -> str:
    """Run a program to its end and return its standard output; `on_line` sees each line of both streams. Raises ProgramFailed."""
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        lines = []
        for line in process.stdout or ():
            lines.append(line)
            on_line(line.rstrip())
    output = "".join(lines)
    if process.returncode:
        raise ProgramFailed(f"{name} ended with code {process.returncode}:\n{output[-_TAIL_CHARS:]}")
    return output
