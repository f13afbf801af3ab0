"""A machine that dies at the n-th operation on its disk."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

_OPERATIONS = ("open", "fsync", "replace", "rename", "unlink", "mkdir")


class PowerCut(BaseException):
    """Nothing may catch it, and nothing reaches the disk after it."""


class Mains:
    """`left` operations go through; the one after them is cut off, and tears the file that it would have made durable."""

    def __init__(self, left: int) -> None:
        self._left = left

    @property
    def failed(self) -> bool:
        return self._left < 0

    def through(self, name: str, operation: Callable[..., Any]) -> Callable[..., Any]:
        def attempt(*arguments: Any, **named: Any) -> Any:
            self._left -= 1
            if self._left < 0:
                if name == "fsync" and self._left == -1:
                    _tear(arguments[0])
                raise PowerCut(name)
            return operation(*arguments, **named)

        return attempt


@contextmanager
def mains(left: int) -> Iterator[Mains]:
    power = Mains(left)
    with pytest.MonkeyPatch.context() as patch:
        for name in _OPERATIONS:
            patch.setattr(os, name, power.through(name, getattr(os, name)))
        yield power


def _tear(handle: int) -> None:
    """What was not synced may be there by half."""
    try:
        os.ftruncate(handle, os.fstat(handle).st_size // 2)
    except OSError:
        return  # a folder
