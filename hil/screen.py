"""What a person sees of a running scenario: one line a step, live where there is a terminal, plain lines where there is none."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich import box
from rich.console import Console
from rich.measure import Measurement
from rich.segment import Segments
from rich.status import Status
from rich.table import Table

_QUIET_S = 5.0
_MAX_TABLE_CHARS = 1_000


class Step:
    """One step of a scenario. `update` is for what passes, `say` for what stays."""

    def __init__(self, console: Console, status: Status | None, title: str, clock: Callable[[], float]) -> None:
        self._console, self._status, self._title, self._clock = console, status, title, clock
        self._spoke_s = clock()

    def update(self, text: str) -> None:
        if self._status:
            self._status.update(f"{self._title}: {text}")
        elif self._clock() - self._spoke_s >= _QUIET_S:
            self._spoke_s = self._clock()
            self._console.print(f"    ... {text}", markup=False, highlight=False, soft_wrap=True)

    def say(self, text: str) -> None:
        self._console.print(f"    {text}", markup=False, highlight=False, soft_wrap=True)


class Screen:
    """Steps and tables on one console."""

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        self._console, self._clock = console, clock
        self.started_s = clock()

    @property
    def elapsed_s(self) -> float:
        return self._clock() - self.started_s

    @contextmanager
    def step(self, title: str) -> Iterator[Step]:
        """Says how long the step took once it has gone well; an error passes through."""
        begun = self._clock()
        if self._console.is_terminal:
            with self._console.status(title) as status:
                yield Step(self._console, status, title, self._clock)
        else:
            self._console.print(f"[{self.elapsed_s:5.1f} s] {title}", markup=False, highlight=False, soft_wrap=True)
            yield Step(self._console, None, title, self._clock)
        self._console.print(
            f"[{self.elapsed_s:5.1f} s] done: {title} ({self._clock() - begun:.1f} s)", markup=False, highlight=False, soft_wrap=True
        )

    def say(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def table(self, title: str, columns: list[str], rows: list[list[str]]) -> None:
        """Columns but the first are right-aligned. No figure is cut or broken, however narrow the console is."""
        table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
        for at, column in enumerate(columns):
            table.add_column(column, justify="right" if at else "left", no_wrap=True)
        for row in rows:
            table.add_row(*row)
        wanted = Measurement.get(self._console, self._console.options.update(max_width=_MAX_TABLE_CHARS), table).maximum
        wide = self._console.options.update(width=max(wanted, self._console.width))  # print() itself takes no more than the console's
        self._console.print(Segments(self._console.render(table, wide)), crop=False, end="")
