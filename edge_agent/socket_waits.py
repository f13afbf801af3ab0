"""How long the kernel lets a blocking socket wait: set once, where `socket.settimeout` would cost a poll at each call."""

import socket
import struct
from math import ceil

_MICROS = 1_000_000
_NEW = frozenset({66, 67})
"""SO_RCVTIMEO and SO_SNDTIMEO where a long has 32 bits and time has 64 (Debian 13 on armv7): they take 64 bits each."""


def limit(sock: socket.socket, option: int, seconds: float) -> None:
    """`option` is SO_RCVTIMEO or SO_SNDTIMEO. A call that waits longer raises BlockingIOError, or sends less. Raises OSError."""
    micros = max(1, ceil(_MICROS * seconds))  # 0 would be for ever
    sock.setsockopt(socket.SOL_SOCKET, option, struct.pack("qq" if option in _NEW else "ll", micros // _MICROS, micros % _MICROS))
