"""Keeps a broker child running: starts it, waits until it speaks mTLS, starts it again when it dies, and takes it along at the end."""

import logging
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import msgspec

from fleet_contract.mqtt import Backoff, Tls
from fleet_server import lifeline
from fleet_server.children import run_again, stop
from fleet_server.errors import BadRequest, Unavailable
from fleet_server.mqtt import mosquitto
from fleet_server.mqtt.listener import Listener
from fleet_server.storage import make_folder, write_atomic

log = logging.getLogger(__name__)

_START_TIMEOUT_S = 20.0
_STOP_TIMEOUT_S = 8.0
_POLL_S = 0.05
_TAIL_LINES = 8
_MAX_LOG_BYTES = 4 << 20


def choose(wanted: str, search_path: str) -> str:
    """`auto` is mosquitto where it is installed, else embedded. Raises BadRequest when mosquitto is wanted and not there."""
    found = mosquitto.find(search_path)
    if wanted == "auto":
        return "mosquitto" if found else "embedded"
    if wanted == "mosquitto" and not found:
        raise BadRequest("mosquitto is not installed: install it (apt install mosquitto) or use --broker embedded", field="broker")
    return wanted


def program(kind: str, listener: Listener, search_path: str) -> list[str]:
    """The command of a broker, its configuration written."""
    if kind == "mosquitto":
        return [mosquitto.find(search_path) or kind, "-c", str(mosquitto.configure(listener, os.geteuid()))]
    settings = Path(listener.folder) / "embedded.json"
    write_atomic(settings, msgspec.json.encode(listener), 0o600)
    return [sys.executable, "-m", "fleet_server.mqtt.embedded", str(settings)]


class BrokerChild:
    """One broker process at a time, restarted with back-off until `close`. `on_started(pid)` is called each time that one accepts connections."""

    def __init__(
        self,
        kind: str,
        listener: Listener,
        probe: Tls,
        *,
        search_path: str,
        on_started: Callable[[int], None] = lambda _: None,
        backoff: Backoff = Backoff(first_s=0.2, longest_s=10.0),
    ) -> None:
        self.kind, self._listener, self._probe = kind, listener, probe
        self._search_path, self._on_started, self._backoff = search_path, on_started, backoff
        self._process: subprocess.Popen | None = None
        self._settled, self._closing = threading.Event(), threading.Event()
        self._failure: str | None = None
        self._log = make_folder(Path(listener.folder), 0o700) / f"{kind}.log"
        # The child is told of the death of the thread that started it, so one thread lives as long as the child may.
        self._thread = threading.Thread(target=self._run, name="broker-child", daemon=True)

    @property
    def pid(self) -> int | None:
        process = self._process
        return process.pid if process and process.poll() is None else None

    def start(self) -> None:
        """Returns when the broker accepts connections. Raises Unavailable with the broker's last log lines when its first start fails."""
        self._thread.start()
        self._settled.wait()
        if self._failure:
            self._thread.join()
            raise Unavailable(self._failure, field="broker")

    def exclude(self, devices: Iterable[str]) -> None:
        """Deny these devices every topic from now on, and look at the file of revoked certificates again. Raises OSError."""
        self._listener = replace(self._listener, excluded=tuple(sorted(devices)))
        program(self.kind, self._listener, self._search_path)
        process = self._process
        if process is not None:
            process.send_signal(signal.SIGHUP)

    def close(self) -> None:
        self._closing.set()
        if self._thread.is_alive():
            self._thread.join(_STOP_TIMEOUT_S + _START_TIMEOUT_S)

    def _run(self) -> None:
        run_again(self._run_once, self._closing, self._backoff, f"the {self.kind} broker")

    def _run_once(self) -> int | None:
        try:
            process = self._process = self._spawn()
        except OSError as error:
            self._fail(f"cannot start the {self.kind} broker: {error}")
            return None
        try:
            if self._wait_accepting(process):
                self._settled.set()
                self._on_started(process.pid)
                while process.poll() is None and not self._closing.wait(_POLL_S):
                    pass
            elif not self._closing.is_set():
                self._fail(f"the {self.kind} broker did not start; the end of {self._log}:\n{self._tail()}")
        finally:
            stop(process, _STOP_TIMEOUT_S)
        return process.returncode

    def _spawn(self) -> subprocess.Popen:
        if self._log.exists() and self._log.stat().st_size > _MAX_LOG_BYTES:
            self._log.replace(self._log.with_suffix(".log.1"))
        command = lifeline.command(os.getpid(), *program(self.kind, self._listener, self._search_path))
        with self._log.open("ab") as out:
            return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out)

    def _wait_accepting(self, process: subprocess.Popen) -> bool:
        deadline = time.monotonic() + _START_TIMEOUT_S
        while time.monotonic() < deadline and process.poll() is None and not self._closing.is_set():
            if self._accepts():
                return process.poll() is None
            self._closing.wait(_POLL_S)
        return False

    def _accepts(self) -> bool:
        context = ssl.create_default_context(cafile=self._probe.ca)
        context.load_cert_chain(self._probe.certificate, self._probe.key)
        host = "127.0.0.1" if self._listener.address == "0.0.0.0" else self._listener.address
        try:
            with socket.create_connection((host, self._listener.port), 2.0) as plain, context.wrap_socket(plain, server_hostname=host):
                return True
        except OSError:
            return False

    def _fail(self, reason: str) -> None:
        """Only the first start may fail for good; later ones are tried again."""
        if self._settled.is_set():
            log.error("%s", reason)
            return
        self._failure = reason
        self._closing.set()
        self._settled.set()

    def _tail(self) -> str:
        try:
            return "\n".join(self._log.read_text(errors="replace").splitlines()[-_TAIL_LINES:])
        except OSError:
            return "(no log)"
