"""The way between supervisor and worker: frames over a stream socket, and large tensors in shared memory beside it. The supervisor may ask
once more before it has heard the answer; else the two sides speak in turn.

A frame is `<QQQ` (header length, payload length, where in the arena the payload lies, or INLINE), the msgpack header, zeros up to a boundary, and
an inline payload. One system call sends it and one reads it, and what a header means is worked out the first time it is seen.
"""

from __future__ import annotations

import mmap
import socket
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import msgspec
import numpy as np

from edge_agent import socket_waits
from edge_agent.inference import layout
from edge_agent.inference.arena import Arena, NoRoom
from edge_agent.inference.frame import ChannelClosed, Frame
from edge_agent.inference.layout import Layout
from edge_agent.inference.protocol import Answer, Infer, Reply, Request
from edge_agent.vigil import Vigil

MAX_HEADER_BYTES = 64 * 1024
INLINE_BYTES = 32 * 1024
"""Larger payloads cost less in shared memory."""
INLINE = 2**64 - 1
_PREFIX = struct.Struct("<QQQ")
_BUFFER_BYTES = layout.align(_PREFIX.size + MAX_HEADER_BYTES) + INLINE_BYTES
AWAKE_S = 5e-4
"""A frame that may come within it, as the next request of a closed loop does, is waited for awake."""
Span = tuple[int, int]
"""Start and stop in the arena."""
NOWHERE: Span = (0, 0)
_KEPT = 64
"""Headers that are remembered each way: one a batch size."""


@dataclass(frozen=True, slots=True)
class _Known:
    """A header that was sent before, and the frame that it begins when the payload is inline."""

    layout: Layout
    header: bytes
    start: bytes


@dataclass(frozen=True, slots=True)
class _Usual:
    """The last inline frame: one that is as long and begins alike differs in its payload alone."""

    start: bytes
    begin: int
    stop: int
    frame: Frame


class Channel:
    """One side of it. One thread may send while another receives."""

    def __init__(self, sock: socket.socket, arena: Arena, decoder: msgspec.msgpack.Decoder, awake_s: float = 0.0) -> None:
        """Takes socket and arena over. `decoder` is of what the other side says. `awake_s`: see Vigil."""
        self._vigil = Vigil(awake_s)
        self._sock = sock
        self._arena = arena
        self._decoder = decoder
        self._encoder = msgspec.msgpack.Encoder()
        self._buffer = memoryview(mmap.mmap(-1, _BUFFER_BYTES))
        self._heard: dict[bytes, tuple[Request | Reply, Layout | None]] = {}
        self._said: dict[tuple, _Known] = {}
        self._timeout_s: float | None = None
        self._usual: _Usual | None = None
        self._sent, self._received = 1, 0  # that a worker is ready, it says unasked
        self._surplus: Span | None = None

    def close(self) -> None:
        self._sock.close()
        self._arena.close()

    def send(self, message: Request | Reply, payload: bytes = b"", timeout_s: float | None = None) -> None:
        """Raises ChannelClosed, or TimeoutError."""
        header = self._encoder.encode(message)
        try:
            self._sock.settimeout(timeout_s)
            self._sock.sendall(_start(header, len(payload), INLINE))
            self._sock.sendall(payload)
            self._sock.settimeout(None)
            self._sent += 1
        except TimeoutError:
            raise
        except OSError as error:
            raise ChannelClosed(f"the channel broke: {error}") from error

    def receive_model(self) -> tuple[Request, bytes]:
        """As engines take it: one copy more would cost as much memory again. Raises ChannelClosed."""
        header_bytes, length, _ = _PREFIX.unpack(self._take(_PREFIX.size))
        header = self._take(layout.align(_PREFIX.size + header_bytes) - _PREFIX.size)[:header_bytes]
        return self._understand(header)[0], self._take(length)

    def send_tensors(
        self, kind: type[Infer] | type[Answer], arrays: Mapping[str, np.ndarray], *, room_bytes: int = 0, beside: Span = NOWHERE
    ) -> Span:
        """What of the arena this takes: the other side may want to answer with `room_bytes`, and what lies `beside` is not touched. Raises ValueError
        for a type that cannot be sent, or more than the arena holds; ChannelClosed, or TimeoutError."""
        key = (kind, *((name, array.dtype, array.shape) for name, array in arrays.items()))
        known = self._said.get(key)
        if known is None:
            known, arrays = self._learn(kind, arrays, key)
        if known.layout.length > INLINE_BYTES or room_bytes > INLINE_BYTES:
            taken, frame = self._share(known, arrays, room_bytes, beside)
        else:
            taken, frame = NOWHERE, known.start + known.layout.join(arrays)
        self._sent += 1
        self._put(frame)
        return taken

    def receive(self, max_payload_bytes: int, timeout_s: float, rest_s: Callable[[], float]) -> Frame:
        """Raises TimeoutError when nothing has come within `timeout_s`; ChannelClosed, also when the rest of it has not come while `rest_s()` is
        positive."""
        self._limit_waiting(timeout_s)
        got = self._await()
        if got is None:
            raise TimeoutError(f"nothing came within {timeout_s:g} s")
        self._received += 1
        return self._parse(got, max_payload_bytes, rest_s, more=self._sent > self._received)

    def await_frame(self, max_payload_bytes: int) -> Frame:
        """For as long as it takes. Raises ChannelClosed."""
        return self._parse(self._await() or 0, max_payload_bytes, lambda: 1.0, more=True)

    def _learn(self, kind, arrays: Mapping[str, np.ndarray], key: tuple) -> tuple[_Known, Mapping[str, np.ndarray]]:
        heads, plain = layout.describe(arrays)
        placed, header = layout.lay_out(heads), self._encoder.encode(kind(heads))
        known = _Known(placed, header, _start(header, placed.length, INLINE))
        if plain is arrays:
            _remember(self._said, key, known)
        return known, plain

    def _share(self, known: _Known, arrays: Mapping[str, np.ndarray], room_bytes: int, beside: Span) -> tuple[Span, bytes]:
        length = layout.align(known.layout.length) + room_bytes
        at = 0 if length <= beside[0] else layout.align(beside[1])
        self._arena.part(at, length)
        known.layout.write(arrays, self._arena.view, at)
        return (at, at + length), _start(known.header, known.layout.length, at)

    def _put(self, frame: bytes) -> None:
        try:
            sent = self._sock.send(frame)
            if sent < len(frame):
                self._sock.sendall(memoryview(frame)[sent:])
        except BlockingIOError as error:
            raise TimeoutError("the other side does not read") from error
        except OSError as error:
            raise ChannelClosed(f"the channel broke: {error}") from error

    def _limit_waiting(self, timeout_s: float) -> None:
        """By the kernel, once."""
        if timeout_s == self._timeout_s:
            return
        for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
            socket_waits.limit(self._sock, option, timeout_s)
        self._timeout_s = timeout_s

    def _await(self) -> int | None:
        """How many bytes of a frame are there; None when it takes too long."""
        if self._surplus is not None:
            return self._left()
        return self._vigil.keep(self._look, self._sleep)

    def _look(self) -> int | None:
        return self._recv(0, socket.MSG_DONTWAIT)

    def _sleep(self) -> int | None:
        return self._recv(0)

    def _recv(self, at: int, flags: int = 0) -> int | None:
        """How many bytes came into the buffer; None when it takes too long."""
        try:
            return self._sock.recv_into(self._buffer[at:] if at else self._buffer, 0, flags)
        except BlockingIOError:
            return None
        except OSError as error:
            raise ChannelClosed(f"the channel broke: {error}") from error

    def _left(self) -> int:
        """What came behind the frame before, now at the buffer's beginning."""
        (start, stop), self._surplus = self._surplus, None
        self._buffer[: stop - start] = self._buffer[start:stop]
        return stop - start

    def _parse(self, got: int, max_payload_bytes: int, rest_s: Callable[[], float], *, more: bool) -> Frame:
        """`more`: what comes behind it may be the next."""
        usual = self._usual
        if (
            usual is not None
            and got == usual.stop
            and got <= usual.begin + max_payload_bytes
            and bytes(self._buffer[: usual.begin]) == usual.start
        ):
            return usual.frame
        got = self._complete(got, _PREFIX.size, rest_s)
        header_bytes, length, at = _PREFIX.unpack_from(self._buffer)
        begin = layout.align(_PREFIX.size + header_bytes)
        if header_bytes > MAX_HEADER_BYTES or length > (min(max_payload_bytes, INLINE_BYTES) if at == INLINE else max_payload_bytes):
            raise ChannelClosed(f"a frame of {header_bytes} + {length} bytes, at most {MAX_HEADER_BYTES} + {max_payload_bytes}")
        stop = begin + (length if at == INLINE else 0)
        got = self._complete(got, stop, rest_s)
        if got != stop and not more:
            raise ChannelClosed("more than a frame came at once")
        self._surplus = None if got == stop else (stop, got)
        message, placed = self._understand(bytes(self._buffer[_PREFIX.size : _PREFIX.size + header_bytes]))
        return self._inline(message, placed, begin, stop) if at == INLINE else self._shared(message, placed, at, length)

    def _inline(self, message: Request | Reply, placed: Layout | None, begin: int, stop: int) -> Frame:
        frame = Frame(message, placed, self._buffer[begin:stop])
        self._usual = _Usual(bytes(self._buffer[:begin]), begin, stop, frame)
        return frame

    def _shared(self, message: Request | Reply, placed: Layout | None, at: int, length: int) -> Frame:
        try:
            return Frame(message, placed, self._arena.part(at, length), at + length)
        except NoRoom as error:
            raise ChannelClosed(str(error)) from error

    def _complete(self, got: int, wanted: int, rest_s: Callable[[], float]) -> int:
        while got < wanted:
            left_s = rest_s()
            if left_s <= 0 or not got:
                raise ChannelClosed("half a frame came" if got else "the other side closed the channel")
            if self._timeout_s is not None:
                self._limit_waiting(left_s)
            more = self._recv(got)
            if more == 0:
                raise ChannelClosed("the other side closed the channel")
            got += more or 0
        return got

    def _understand(self, header: bytes) -> tuple[Request | Reply, Layout | None]:
        known = self._heard.get(header)
        if known is not None:
            return known
        try:
            message = self._decoder.decode(header)
            placed = layout.lay_out(message.tensors) if isinstance(message, Infer | Answer) else None
        except (ValueError, RecursionError) as error:
            raise ChannelClosed(f"malformed header: {error}") from error
        _remember(self._heard, header, (message, placed))
        return message, placed

    def _take(self, length: int) -> bytes:
        """One allocation, unless a signal or the kernel's 2 GiB a call cut it."""
        pieces = []
        while length:
            pieces.append(self._sock.recv(length, socket.MSG_WAITALL))
            if not pieces[-1]:
                raise ChannelClosed("the other side closed the channel")
            length -= len(pieces[-1])
        return b"".join(pieces)


def _start(header: bytes, length: int, at: int) -> bytes:
    """A frame up to its inline payload."""
    whole = _PREFIX.pack(len(header), length, at) + header
    return whole + bytes(layout.align(len(whole)) - len(whole))


def _remember(found: dict, key, value) -> None:
    if len(found) >= _KEPT:
        found.clear()
    found[key] = value
