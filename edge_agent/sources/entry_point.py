"""Inputs from a function of one's own."""

import importlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from edge_agent.errors import Fatal
from edge_agent.ports import Clock, Input, Source
from fleet_contract.inputs import InputSpec


class EntryPoint:
    """What `make(clock, argument)` gives at each reading: an iterator of Input (None: nothing just now), which begins anew and so cannot resume, or
    an object with the methods of ports.Source, which is then as good as one built in. Only arrays of the shape that the model wants pass."""

    def __init__(self, make: Callable[[Clock, str], Any], clock: Clock, argument: str) -> None:
        """Raises Fatal when `make` raises anything."""
        try:
            made = make(clock, argument)
        except Exception as error:
            raise Fatal(f"the source {make.__module__}:{make.__qualname__} cannot be made: {error}", code="source") from error
        self._source: Source | None = made if hasattr(made, "read") else None
        self._first: Iterator[Input | None] | None = None if self._source else made
        self._make, self._clock, self._argument = make, clock, argument

    def read(self, spec: InputSpec, after: str | None) -> Iterator[Input | None]:
        if self._source is not None:
            yield from self._source.read(spec, after)
            return
        stream = self._first if self._first is not None else self._make(self._clock, self._argument)
        self._first = None
        for taken in stream:
            yield taken if taken is None else replace(taken, cursor=None)

    def losses(self) -> dict[str, int]:
        return self._source.losses() if self._source is not None else {}

    def close(self) -> None:
        if self._source is not None:
            self._source.close()


def load(text: str) -> tuple[Callable[[Clock, str], Any], str]:
    """The callable and the argument of `MODULE:ATTRIBUTE[:ARGUMENT]`. Raises Fatal when there is none, whatever its module does when it is imported."""
    module, _, rest = text.partition(":")
    attribute, _, argument = rest.partition(":")
    if not (module and attribute):
        raise Fatal(f"{text!r} is no MODULE:ATTRIBUTE[:ARGUMENT]", code="source")
    try:
        made = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError, SyntaxError) as error:
        raise Fatal(f"there is no source {module}:{attribute}: {error}", code="source") from error
    if not callable(made):
        raise Fatal(f"{module}:{attribute} cannot be called with a clock and a text", code="source")
    return made, argument
