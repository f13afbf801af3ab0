"""A source of rows that feeds a model of windows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import msgspec
import numpy as np

from edge_agent.ports import Input, Source
from edge_agent.sources.losses import Losses
from edge_agent.sources.rows import BAD_ROW, JSON
from edge_agent.sources.windows import Sample, Window, Windows
from fleet_contract.inputs import InputSpec, VectorInput, WindowInput


class Windowed:
    """Implements ports.Source over another, which it asks for single rows when the model wants windows, and leaves alone when it does not.
    A window has the id and the time of the row that completes it; its cursor is that of the row before the next window's first. Rows that could not
    be read, or come out of order, are losses; by count, no window goes over one that could not be read."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._losses = Losses()

    def read(self, spec: InputSpec, after: str | None) -> Iterator[Input | None]:
        if isinstance(spec, WindowInput):
            return self._windows(spec, after)
        return self._source.read(spec, after)

    def losses(self) -> dict[str, int]:
        return dict(Counter(self._losses.take()) + Counter(self._source.losses()))

    def close(self) -> None:
        self._source.close()

    def _windows(self, spec: WindowInput, after: str | None) -> Iterator[Input | None]:
        windows, before = Windows(spec), after
        follows = True
        for row in self._source.read(VectorInput(spec.tensor, spec.columns, spec.low, spec.high), after):
            if row is None:
                yield None
                continue
            if row.values is None or row.values.shape != (len(spec.columns),):
                self._losses.add(row.refusal or BAD_ROW)
                follows = False
                continue
            sample = Sample(row.at.timestamp(), row.values, before, row.cursor)
            for part, window in enumerate(windows.add(sample, follows=follows and row.follows)):
                yield _to_input(window, row, part, spec)
            before, follows = row.cursor, True
            for reason, count in windows.lost.items():
                self._losses.add(reason, count)
            windows.lost.clear()


def _to_input(window: Window, row: Input, part: int, spec: WindowInput) -> Input:
    values = window.values[:, 0] if spec.flat else window.values
    name = row.id if part == 0 else f"{row.id}.{part}"
    return Input(name, row.at, window.cursor, JSON, msgspec.json.encode(values.tolist()), values.astype(np.float32), follows=window.follows)
