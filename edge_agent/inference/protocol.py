"""What supervisor and worker say to each other over their socket pair: a msgpack header and, beside it, raw bytes (a model, a tensor).

One frame is `<IQ` (header length, payload length), the header, the payload. Requests and replies alternate.
"""

import socket
import struct
from collections.abc import Callable, Mapping

import msgspec
import numpy as np

from edge_agent.inference.plan import GraphSignature, Plan
from fleet_contract import tensors
from fleet_contract.tensors import DType

MAX_HEADER_BYTES = 64 * 1024
_JOINED_BYTES = 64 * 1024
_LENGTHS = struct.Struct("<IQ")


class ChannelClosed(ConnectionError):
    """The other side is gone, or what it says is not this protocol."""


class _Struct(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    pass


class Head(_Struct):
    """One tensor; its `length` bytes follow those of the heads before it in the payload."""

    name: str
    dtype: DType
    shape: list[int]
    length: int


class Load(_Struct, tag="load"):
    """The payload is the model file."""

    plan: Plan


class Infer(_Struct, tag="infer"):
    """The payload is the tensors'."""

    tensors: list[Head]


class Unload(_Struct, tag="unload"):
    pass


class Ready(_Struct, tag="ready"):
    """The worker is sandboxed and waits. `walls` are those of sandbox.py that this kernel granted."""

    walls: list[str]


class Loaded(_Struct, tag="loaded"):
    signature: GraphSignature


class Unloaded(_Struct, tag="unloaded"):
    pass


class Answer(_Struct, tag="answer"):
    """The payload is the tensors'."""

    tensors: list[Head]


class Failed(_Struct, tag="failed"):
    """`code` is bundle, memory, wrong-answer or no-variant; the worker goes on."""

    code: str
    message: str


Request = Load | Infer | Unload
Reply = Ready | Loaded | Unloaded | Answer | Failed

_encoder = msgspec.msgpack.Encoder()
requests = msgspec.msgpack.Decoder(Request)
replies = msgspec.msgpack.Decoder(Reply)


def send(sock: socket.socket, message: Request | Reply, payload: bytes | memoryview = b"") -> None:
    """Raises ChannelClosed, or TimeoutError when the socket has a timeout."""
    header = _encoder.encode(message)
    head = _LENGTHS.pack(len(header), len(payload)) + header
    try:
        if len(payload) <= _JOINED_BYTES:  # one system call and one wake-up
            sock.sendall(head + payload)
        else:
            sock.sendall(head)
            sock.sendall(payload)
    except TimeoutError:
        raise
    except OSError as error:
        raise ChannelClosed(f"the channel broke: {error}") from error


def receive(
    sock: socket.socket, decoder: msgspec.msgpack.Decoder, max_payload_bytes: int, remaining_s: Callable[[], float] | None = None
) -> tuple[Request | Reply, bytes | memoryview]:
    """The next message and its payload. Raises ChannelClosed, or TimeoutError once `remaining_s()` is used up.
    None: wait for ever; the payload is bytes then, because engines take models as nothing else, and a copy would cost as much again."""
    header_bytes, payload_bytes = _LENGTHS.unpack(_read(sock, _LENGTHS.size, remaining_s))
    if header_bytes > MAX_HEADER_BYTES or payload_bytes > max_payload_bytes:
        raise ChannelClosed(f"a frame of {header_bytes} + {payload_bytes} bytes, at most {MAX_HEADER_BYTES} + {max_payload_bytes}")
    header = _read(sock, header_bytes, remaining_s)
    try:
        message = decoder.decode(header)
    except (ValueError, RecursionError) as error:
        raise ChannelClosed(f"malformed header: {error}") from error
    return message, _read(sock, payload_bytes, remaining_s)


def pack(arrays: Mapping[str, np.ndarray]) -> tuple[list[Head], bytes | memoryview]:
    """Raises ValueError for a type that cannot be sent."""
    heads, parts = [], []
    for name, array in arrays.items():
        dtype = tensors.dtype_of(array)
        data = tensors.encode(array) if dtype == tensors.STRING else memoryview(np.ascontiguousarray(array)).cast("B")
        heads.append(Head(name, dtype, list(array.shape), len(data)))
        parts.append(data)
    return heads, parts[0] if len(parts) == 1 else b"".join(parts)


def unpack(heads: list[Head], payload: bytes | memoryview) -> dict[str, np.ndarray]:
    """Views of the payload. Raises ChannelClosed when heads and payload disagree."""
    found, at, whole = {}, 0, memoryview(payload)
    try:
        for head in heads:
            found[head.name] = tensors.decode(head.dtype, head.shape, whole[at : at + head.length])
            at += head.length
    except ValueError as error:
        raise ChannelClosed(f"malformed tensors: {error}") from error
    if at != len(whole) or len(found) != len(heads):
        raise ChannelClosed(f"{len(whole)} bytes for tensors of {at}")
    return found


def _read(sock: socket.socket, length: int, remaining_s: Callable[[], float] | None) -> bytes | memoryview:
    try:
        return _read_whole(sock, length) if remaining_s is None else _read_by(sock, length, remaining_s)
    except (TimeoutError, ChannelClosed):
        raise
    except OSError as error:
        raise ChannelClosed(f"the channel broke: {error}") from error


def _read_whole(sock: socket.socket, length: int) -> bytes:
    """One allocation, unless a signal or the kernel's 2 GiB a call cut it."""
    pieces = []
    while length:
        pieces.append(sock.recv(length, socket.MSG_WAITALL))
        if not pieces[-1]:
            raise ChannelClosed("the other side closed the channel")
        length -= len(pieces[-1])
    return b"".join(pieces)


def _read_by(sock: socket.socket, length: int, remaining_s: Callable[[], float]) -> memoryview:
    data = memoryview(bytearray(length))
    at = 0
    while at < length:
        left_s = remaining_s()
        if left_s <= 0:
            raise TimeoutError("the deadline has passed")
        sock.settimeout(left_s)
        got = sock.recv_into(data[at:])
        if not got:
            raise ChannelClosed("the other side closed the channel")
        at += got
    return data
