"""Imports that wait for their first use, as a program's own decision: what it imports afterwards names the module and does not load it."""

from __future__ import annotations

import importlib
import sys
import threading
from types import ModuleType


def defer(name: str) -> None:
    """`import name` gives a stand-in from now on, which becomes the module at the first look at any of its attributes, from any thread.
    (importlib.util.LazyLoader does so too, but is not safe to be looked at by two threads before Python 3.12.) Nothing happens if it is loaded."""
    sys.modules.setdefault(name, _Deferred(name))


class _Deferred(ModuleType):
    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.__dict__["_loading"] = threading.RLock()

    def __getattr__(self, attribute: str) -> object:
        """Only what is not there yet comes here: after the first time, nothing does."""
        with self.__dict__["_loading"]:
            if sys.modules.get(self.__name__) is self:
                del sys.modules[self.__name__]
                self.__dict__.update(vars(importlib.import_module(self.__name__)))
        return getattr(sys.modules[self.__name__], attribute)
