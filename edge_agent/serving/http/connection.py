"""One caller's connection: request after request until somebody has enough."""

import logging
import socket
import threading
from collections.abc import Callable
from http import HTTPMethod

from edge_agent.errors import AgentError
from edge_agent.serving.http import body
from edge_agent.serving.http.bounds import Bounds, Budget
from edge_agent.serving.http.head import Head, parse
from edge_agent.serving.http.message import Application, Request, Response
from edge_agent.serving.http.stream import Gone, Stream
from edge_agent.serving.refusals import Refused

log = logging.getLogger(__name__)

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class Connection:
    """`serve` runs in a thread of its own; `finish` may be called from another."""

    def __init__(
        self, connection: socket.socket, application: Application, bounds: Bounds, budget: Budget, monotonic_s: Callable[[], float]
    ) -> None:
        self._socket, self._application, self._bounds, self._budget = connection, application, bounds, budget
        self._stream = Stream(connection, monotonic_s, idle_s=bounds.idle_s, request_s=bounds.request_s, write_s=bounds.write_s)
        self._block, self._head = b"", None
        self._lock = threading.Lock()
        self._is_busy = self._is_last = False

    def serve(self) -> None:
        """Until the connection is closed, here or there."""
        try:
            while self._exchange():
                pass
        except Gone:
            pass
        except Exception as error:  # one caller's mishap is not the others'
            log.exception("a request met a mistake of this program")
            self._refuse(AgentError(f"a mistake in this program: {type(error).__name__}", code="internal"))
        finally:
            self._socket.close()

    def finish(self) -> None:
        """An idle connection ends now, a busy one behind the answer that is under way."""
        with self._lock:
            self._is_last = True
            if not self._is_busy:
                self.cut(socket.SHUT_RD)

    def cut(self, how: int = socket.SHUT_RDWR) -> None:
        try:
            self._socket.shutdown(how)
        except OSError:
            return  # it has ended by itself

    def _exchange(self) -> bool:
        """Whether another may follow."""
        try:
            block = self._stream.head()
            self._is_busy = True
            head = self._admitted(block)
            with self._budget.share() as share:
                self._invite(head)
                response = self._application.answer(Request(head, body.read(self._stream, head, share, self._bounds.body_bytes)))
                share.add(response.length)  # a caller that reads slowly holds it for so long
                keep_alive = head.keep_alive and not self._is_last
                self._send(response, keep_alive=keep_alive, bare=head.method == HTTPMethod.HEAD)
        except Refused as error:
            self._refuse(error)
            return False
        return keep_alive and self._is_free()

    def _admitted(self, block: bytes) -> Head:
        """A caller that stays says the same again and again."""
        if block != self._block:
            head = parse(block)
            self._application.admit(head)
            body.check_length(head, self._bounds.body_bytes)
            self._block, self._head = block, head
        return self._head

    def _is_free(self) -> bool:
        with self._lock:
            self._is_busy = False
            return not self._is_last

    def _invite(self, head: Head) -> None:
        if head.expects and head.length != 0 and not self._stream.holds_more:
            self._stream.send([_CONTINUE])

    def _send(self, response: Response, *, keep_alive: bool, bare: bool = False) -> None:
        self._stream.send([response.head(keep_alive=keep_alive), *(() if bare else response.parts)])

    def _refuse(self, error: AgentError) -> None:
        """Nothing that follows can be understood."""
        try:
            self._send(self._application.refuse(error), keep_alive=False)
        except Gone:
            return
        self._stream.discard(self._bounds.linger_s)
