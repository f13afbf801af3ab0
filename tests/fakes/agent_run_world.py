"""The agent's ports in memory: a clock that is set, a list as a source, a script as a host, a store that can fail."""

import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from datetime import UTC, datetime, timedelta

import numpy as np

from edge_agent.errors import Retry
from edge_agent.ports import ActiveModel, Inference, Input, Tensors
from fleet_contract.bundle import Bundle
from fleet_contract.inputs import ImageInput, VectorInput
from fleet_contract.messages import Batch, Follow, Lane, LaneLedger, Record, Result
from fleet_contract.sketch import decode_reference

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)


class FakeClock:
    """Stands still unless `step_s` moves it at each look."""

    def __init__(self, step_s: float = 0.0) -> None:
        self.elapsed_s = 0.0
        self.step_s = step_s

    def now(self) -> datetime:
        return BEGIN + timedelta(seconds=self.monotonic_s())

    def monotonic_s(self) -> float:
        self.elapsed_s += self.step_s
        return self.elapsed_s


class FakeStore:
    """Implements ports.Store as far as the pipeline goes. `failures` holds how many appends fail before each success."""

    epoch = "e1"

    def __init__(self, failures: Sequence[int] = ()) -> None:
        self.records: list[Record] = []
        self.appends: list[list[Record]] = []
        self.marks: dict[str, str] = {}
        self.position: str | None = None
        self.refused = 0
        self.followed: list[tuple[Follow, Result]] = []
        self.dropped: list[tuple[Record, str]] = []
        self._failures = list(failures)
        self._changed = threading.Condition()

    def append(self, records: Sequence[Record], *, cursor: str | None = None, marks: dict[str, str] | None = None) -> None:
        with self._changed:
            if self._failures and self._failures[0] > 0:
                self._failures[0] -= 1
                self.refused += 1
                raise Retry("the disk is full", code="disk")
            self._failures[:1] = []
            self.records += records
            self.appends.append(list(records))
            self.position = cursor if cursor is not None else self.position
            self.marks |= marks or {}
            self._changed.notify_all()

    def submit(
        self, records: Sequence[Record], *, cursor: str | None = None, marks: dict[str, str] | None = None, follow: Follow | None = None
    ) -> bool:
        try:
            self.append(records, cursor=cursor, marks=marks)
        except Retry:
            return False
        if follow is not None:
            self.followed.append((follow, next(record for record in records if isinstance(record, Result))))
        return True

    def drop(self, records: Sequence[Record], reason: str) -> None:
        with self._changed:
            self.dropped += [(record, reason) for record in records]
            self._changed.notify_all()

    def cursor(self) -> str | None:
        return self.position

    def mark(self, name: str) -> str | None:
        return self.marks.get(name)

    def batches(self, max_batches: int, *, fresh: bool, lanes: Collection[Lane] = tuple(Lane)) -> list[Batch]:
        return []

    def rewind(self, units: Sequence[tuple[Lane, int]] | None = None) -> None: ...

    def acknowledge(self, lane: Lane, ranges: Sequence[tuple[int, int]]) -> None: ...

    def ledger(self) -> dict[Lane, LaneLedger]:
        return {}

    def of(self, kind: type) -> list:
        return [record for record in self.records if isinstance(record, kind)]

    def wait_until(self, holds: Callable[[], bool], deadline_s: float = 30.0) -> None:
        """Wakes at each commit."""
        with self._changed:
            if not self._changed.wait_for(holds, deadline_s):
                raise TimeoutError("the store never came to hold that")


class FakeSource:
    """Yields `inputs` (None: a pause) after the cursor. When they are used up it sets `drained` and pauses for ever, or ends with `ends`."""

    def __init__(self, inputs: Sequence[Input | None], *, ends: bool = False) -> None:
        self.inputs = list(inputs)
        self.ends = ends
        self.drained = threading.Event()
        self.reads: list[tuple[ImageInput | VectorInput, str | None]] = []
        self.closed = False
        self.lost: dict[str, int] = {}

    def read(self, spec: ImageInput | VectorInput, after: str | None) -> Iterator[Input | None]:
        self.reads.append((spec, after))
        cursors = [taken.cursor if taken else None for taken in self.inputs]
        start = cursors.index(after) + 1 if after in cursors and after is not None else 0
        yield from self.inputs[start:]
        self.drained.set()
        while not self.ends:
            yield None

    def losses(self) -> dict[str, int]:
        found, self.lost = self.lost, {}
        return found

    def close(self) -> None:
        self.closed = True


class FakeHost:
    """Answers `batch @ [[1, -1], [0.5, 2]]` of a real bundle. `script` maps a call's number to the error that it raises."""

    def __init__(self, archive: bytes | None, script: dict[int, Exception] | None = None) -> None:
        self.weight = np.array([[1, -1], [0.5, 2]], np.float32)
        self.script = script or {}
        self.poison: Callable[[np.ndarray], Exception | None] = lambda batch: None
        self.calls = 0
        self.rows: list[int] = []
        self.swap(archive)

    def swap(self, archive: bytes | None) -> None:
        if archive is None:
            self.model = None
            return
        bundle = Bundle(archive)
        self.model = ActiveModel(bundle.sha256, bundle.manifest, decode_reference(bundle.read(bundle.manifest.reference)))

    def active(self) -> ActiveModel | None:
        return self.model

    def infer(self, inputs: Tensors, *, timeout_s: float | None = None) -> Inference:
        (batch,) = inputs.values()
        self.calls += 1
        self.rows.append(len(batch))
        error = self.script.get(self.calls) or self.poison(batch)
        if error is not None:
            raise error
        if self.model is None:
            raise Retry("no model", code="no-model")
        flat = batch.reshape(len(batch), -1)[:, :2]
        answers = {self.model.manifest.output.tensor: flat @ self.weight}
        return Inference(self.model.sha256, self.model.manifest, answers, 100, self.model.reference)

    def prove(self, bundle):
        raise NotImplementedError

    def activate(self, bundle, chosen=None) -> None:
        raise NotImplementedError

    def deactivate(self) -> None:
        self.model = None

    def close(self) -> None: ...


def vector_input(number: int, values: Sequence[float] | None = None, refusal: str | None = None) -> Input:
    """Input `number` with two values; `refusal` makes it unreadable."""
    row = np.array([number % 7 - 3, number % 5 - 2] if values is None else values, np.float32)
    at = BEGIN + timedelta(seconds=number)
    data = str(row.tolist()).encode()
    return Input(str(number), at, str(number), "application/json", data, None if refusal else row, refusal)
