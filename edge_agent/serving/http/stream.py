"""The bytes of one connection, each waited for within its bound."""

import socket
from collections.abc import Callable, Sequence

from edge_agent import socket_waits
from edge_agent.serving.refusals import Refused
from edge_agent.vigil import Vigil, affordable
from fleet_contract import limits

_READ_BYTES = 64 * limits.KIB
_END = b"\r\n\r\n"
_LINE_END = b"\r\n"
_AWAKE_S = 2e-4
"""For the next request of a caller who asks one after the other."""


class Gone(Exception):
    """The peer has closed, or does not take what it asked for."""


class Stream:
    """Reads and writes a blocking socket. Its time-outs are the kernel's (SO_RCVTIMEO): a request that comes in one piece costs one system call."""

    def __init__(
        self, connection: socket.socket, monotonic_s: Callable[[], float], *, idle_s: float, request_s: float, write_s: float
    ) -> None:
        self._socket, self._monotonic_s = connection, monotonic_s
        self._idle_s, self._request_s = idle_s, request_s
        self._held = b""
        self._deadline_s = 0.0
        self._is_hurried = True
        self._vigil = Vigil(affordable(_AWAKE_S))
        socket_waits.limit(connection, socket.SO_SNDTIMEO, write_s)

    def head(self) -> bytes:
        """Up to the next empty line, without it. Raises Gone when nothing begins within the idle time; Refused (too-slow, head-too-large)."""
        held = (self._held or self._first()).lstrip(_LINE_END)
        self._deadline_s = self._monotonic_s() + self._request_s
        while (end := held.find(_END, 0, limits.MAX_HTTP_HEAD_BYTES)) < 0:
            if len(held) >= limits.MAX_HTTP_HEAD_BYTES:
                raise Refused(f"the head has more than {limits.MAX_HTTP_HEAD_BYTES} bytes", code="head-too-large")
            held = (held + self._more()).lstrip(_LINE_END)
        self._held = held[end + len(_END) :]
        return held[:end]

    def line(self, max_bytes: int) -> bytes:
        """Up to the next line's end, without it. Raises Refused (bad-request, too-slow)."""
        while (end := self._held.find(_LINE_END, 0, max_bytes)) < 0:
            if len(self._held) >= max_bytes:
                raise Refused(f"a line of the body has more than {max_bytes} bytes")
            self._held += self._more()
        line, self._held = self._held[:end], self._held[end + len(_LINE_END) :]
        return line

    def take(self, count: int, pay: Callable[[int], None]) -> bytes | memoryview:
        """Exactly `count` bytes; `pay` is told of them as they come. Raises Refused (too-slow, bad-request), or what `pay` raises."""
        held = self._held[:count]
        pay(len(held))
        self._held = self._held[count:]
        if len(held) == count:
            return held
        whole = memoryview(bytearray(count))  # its pages, too, come with the bytes
        whole[: len(held)] = held
        at = len(held)
        while at < count:
            came = self._fill(whole[at:])
            pay(came)
            at += came
        return whole

    @property
    def holds_more(self) -> bool:
        """Whether bytes behind those taken have come already."""
        return bool(self._held)

    def send(self, parts: Sequence[bytes | memoryview]) -> None:
        """All of them, or Gone."""
        try:
            sent = self._socket.sendmsg(parts)
        except OSError as error:
            raise Gone from error
        if sent != sum(len(part) for part in parts):  # the time-out
            raise Gone

    def discard(self, linger_s: float) -> None:
        """Say that no more is sent, and forget what still comes: closing at once would reset the connection before the last answer is read."""
        end_s = self._monotonic_s() + linger_s
        try:
            self._socket.shutdown(socket.SHUT_WR)
            while (left_s := end_s - self._monotonic_s()) > 0:
                self._wait(left_s)
                if not self._socket.recv(_READ_BYTES):
                    return
        except OSError:
            return

    def _first(self) -> bytes:
        if self._is_hurried:
            self._wait(self._idle_s)
            self._is_hurried = False
        data = self._vigil.keep(self._look, self._sleep)
        if not data:
            raise Gone
        return data

    def _look(self) -> bytes | None:
        try:
            return self._socket.recv(_READ_BYTES, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return None
        except OSError as error:
            raise Gone from error

    def _sleep(self) -> bytes:
        try:
            return self._socket.recv(_READ_BYTES)
        except OSError as error:
            raise Gone from error

    def _more(self) -> bytes:
        data = bytearray(_READ_BYTES)
        return bytes(data[: self._fill(memoryview(data))])

    def _fill(self, room: memoryview) -> int:
        left_s = self._deadline_s - self._monotonic_s()
        if left_s <= 0:
            raise Refused(f"the request did not come within {self._request_s:g} s", code="too-slow")
        self._wait(left_s)
        self._is_hurried = True
        try:
            count = self._socket.recv_into(room)
        except BlockingIOError as error:
            raise Refused(f"the request did not come within {self._request_s:g} s", code="too-slow") from error
        except OSError as error:
            raise Gone from error
        if not count:
            raise Refused("the request ends in its middle")
        return count

    def _wait(self, seconds: float) -> None:
        socket_waits.limit(self._socket, socket.SO_RCVTIMEO, seconds)
