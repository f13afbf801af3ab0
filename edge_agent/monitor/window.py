"""Sketches of what the active bundle sees, a window at a time. An open window is memory only: a killed agent begins a new one."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import numpy as np

from edge_agent.monitor.counting import counter_for
from edge_agent.ports import ActiveModel
from fleet_contract import features
from fleet_contract.manifest import Manifest
from fleet_contract.messages import SketchWindow
from fleet_contract.sketch import Grid, Sketcher


class WindowKeeper:
    """Fills windows of the bundle's `policy.drift.window_inputs`; another bundle abandons the open one."""

    def __init__(self) -> None:
        self._sha256: str | None = None
        self._sketcher: Sketcher | None = None
        self._columns: np.ndarray | None = None
        self._first = 0
        self._start: datetime | None = None

    def add(
        self, model: ActiveModel, batch: np.ndarray, said: np.ndarray, numbers: Sequence[int], times: Sequence[datetime]
    ) -> list[SketchWindow]:
        """Count answered rows and return the windows that they fill. `said` are their output features, `numbers` the inputs' ordinals, `times`
        when they were acquired."""
        if model.sha256 != self._sha256 or self._sketcher is None:
            self._sha256, self._sketcher = model.sha256, Sketcher(model.reference.grid, counter_for(model.reference.grid))
            self._columns = columns_of(model.manifest, model.reference.grid)
        spec = model.manifest.input
        values = np.hstack([features.of_inputs(batch, spec), said])[:, self._columns]
        return list(self._fill(self._sketcher, values, model.manifest.policy.drift.window_inputs, numbers, times))

    def _fill(self, sketcher: Sketcher, values: np.ndarray, size: int, numbers: Sequence[int], times: Sequence[datetime]):
        at = 0
        while at < len(values):
            end = min(len(values), at + max(1, size - sketcher.rows))
            if sketcher.rows == 0:
                self._first, self._start = numbers[at], times[at]
            sketcher.add(values[at:end])
            if sketcher.rows >= size:
                yield SketchWindow(
                    start=self._start,
                    end=times[end - 1],
                    bundle=self._sha256,
                    first_input=self._first,
                    inputs=sketcher.rows,
                    sketch=sketcher.sketch(),
                )
                sketcher.reset()
            at = end


def columns_of(manifest: Manifest, grid: Grid) -> np.ndarray:
    """Where each feature of the grid stands among the input features followed by the output features."""
    names = [("input", name) for name in features.input_names(manifest.input)]
    names += [("output", name) for name in features.output_names(manifest.output)]
    return np.array([names.index((feature.role, feature.name)) for feature in grid.features], np.intp)
