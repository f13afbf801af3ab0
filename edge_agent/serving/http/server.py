"""Listens, and gives each connection its thread."""

import logging
import socket
import threading
from collections.abc import Iterator

from edge_agent.ports import Clock
from edge_agent.serving.address import Address, UnixAddress, bound, listen
from edge_agent.serving.http.bounds import Bounds, Budget
from edge_agent.serving.http.connection import Connection
from edge_agent.serving.http.message import Application
from edge_agent.serving.http.stream import Gone, Stream
from edge_agent.serving.metrics import Metric, Point
from edge_agent.serving.refusals import Refused

log = logging.getLogger(__name__)

_ACCEPT_PAUSE_S = 0.1


class HttpServer:
    """Listens from its making on, answers from `start` to `close`."""

    def __init__(self, address: Address, application: Application, clock: Clock, bounds: Bounds = Bounds()) -> None:
        """Raises Fatal where the address cannot be had."""
        self._application, self._clock, self._bounds = application, clock, bounds
        self._budget = Budget(bounds.bodies_bytes)
        self._lock = threading.Lock()
        self._open: dict[threading.Thread, Connection] = {}
        self._closing = threading.Event()
        self._accepted = self._turned_away = 0
        self._listener = listen(address)
        self.address = bound(address, self._listener)
        self._acceptor = threading.Thread(target=self._accept, name=f"http-{self.address}", daemon=True)

    def start(self) -> None:
        self._acceptor.start()

    def close(self) -> None:
        """Requests under way are answered; those that take longer than `closing_s` are cut off."""
        self._closing.set()
        self._stop_listening()
        with self._lock:
            connections = dict(self._open)
        for connection in connections.values():
            connection.finish()
        end_s = self._clock.monotonic_s() + self._bounds.closing_s
        for thread, connection in connections.items():
            thread.join(max(0.0, end_s - self._clock.monotonic_s()))
            if thread.is_alive():
                connection.cut()
                thread.join(self._bounds.linger_s)

    def metrics(self) -> Iterator[Metric]:
        where = {"address": str(self.address)}
        yield Metric("edge_agent_http_connections", "gauge", "Open now.", [Point(where, len(self._open))])
        yield Metric("edge_agent_http_connections_total", "counter", "Accepted.", [Point(where, self._accepted)])
        told = "Closed at once, as too many were open."
        yield Metric("edge_agent_http_connections_refused_total", "counter", told, [Point(where, self._turned_away)])

    def _stop_listening(self) -> None:
        if self._acceptor.is_alive():
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes accept(), which close() would not
            self._acceptor.join()
        self._listener.close()
        if isinstance(self.address, UnixAddress):
            self.address.path.unlink(missing_ok=True)

    def _accept(self) -> None:
        while not self._closing.is_set():
            try:
                connection, _ = self._listener.accept()
            except OSError as error:
                if not self._closing.is_set():
                    log.warning("cannot accept a connection: %s", error)
                    self._closing.wait(_ACCEPT_PAUSE_S)  # out of descriptors: some will be closed
                continue
            self._take(connection)

    def _take(self, connection: socket.socket) -> None:
        if len(self._open) >= self._bounds.connections:
            self._turn_away(connection)
            return
        self._accepted += 1
        try:
            self._begin(connection)
        except (OSError, RuntimeError) as error:  # it has ended already, or the system has no more threads
            log.warning("a connection ends before it began: %s", error)
            connection.close()

    def _begin(self, connection: socket.socket) -> None:
        if connection.family != socket.AF_UNIX:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        served = Connection(connection, self._application, self._bounds, self._budget, self._clock.monotonic_s)
        thread = threading.Thread(target=self._serve, args=[served], name="http-connection", daemon=True)
        with self._lock:
            self._open[thread] = served
        try:
            thread.start()
        except RuntimeError:
            with self._lock:
                del self._open[thread]
            raise

    def _serve(self, connection: Connection) -> None:
        try:
            connection.serve()
        finally:
            with self._lock:
                del self._open[threading.current_thread()]

    def _turn_away(self, connection: socket.socket) -> None:
        self._turned_away += 1
        response = self._application.refuse(Refused(f"{self._bounds.connections} connections are open already", code="overloaded"))
        with connection:
            stream = Stream(connection, self._clock.monotonic_s, idle_s=0, request_s=0, write_s=_ACCEPT_PAUSE_S)
            try:
                stream.send([response.head(keep_alive=False), *response.parts])
            except Gone:
                return
