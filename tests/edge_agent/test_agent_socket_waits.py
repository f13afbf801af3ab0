"""A blocking socket waits as long as it was told to, on boards of either word length."""

import socket
import sys

import pytest

from edge_agent import socket_waits

NEW_RECEIVE = 66
"""SO_RCVTIMEO of a 32-bit board whose time has 64 bits; kernels of 64 bits know it, too."""


@pytest.mark.skipif(sys.platform != "linux", reason="the option's number is Linux's")
@pytest.mark.parametrize("option", [socket.SO_RCVTIMEO, NEW_RECEIVE])
def test_it_ends(option: int) -> None:
    here, there = socket.socketpair()
    with here, there:
        socket_waits.limit(here, option, 0.01)
        with pytest.raises(BlockingIOError):
            here.recv(1)


def test_no_time_is_a_short_one() -> None:
    here, there = socket.socketpair()
    with here, there:
        socket_waits.limit(here, socket.SO_RCVTIMEO, 0.0)
        with pytest.raises(BlockingIOError):
            here.recv(1)
