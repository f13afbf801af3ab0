"""What the agent needs from the world. app.py alone names the classes behind these; tests/fakes hold another set."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

import numpy as np

from fleet_contract.bundle import Bundle
from fleet_contract.inputs import InputSpec
from fleet_contract.instants import microseconds
from fleet_contract.manifest import Manifest
from fleet_contract.messages import Batch, ClockState, DiskUse, Follow, FromDevice, Lane, LaneLedger, Record, Result
from fleet_contract.sketch import Reference

Tensors = Mapping[str, "np.ndarray"]
"""By the manifest's names, rows first, in the manifest's types; pixels may be uint8 instead."""


@dataclass(frozen=True)
class Reading:
    """Both clocks looked at together. `at` is aware UTC wall time, `mono_us` the microseconds since the machine's start, suspended ones included,
    which `boot` names; `state` says whether the wall clock can be trusted ("corrected" is for records alone)."""

    at: datetime
    mono_us: int
    boot: str
    state: ClockState

    @property
    def offset_us(self) -> int:
        """Wall time less monotonic time, in microseconds since 1970: constant while nobody sets the wall clock."""
        return microseconds(self.at) - self.mono_us


class Clock(Protocol):
    def now(self) -> datetime:
        """Aware UTC wall time."""

    def monotonic_s(self) -> float:
        """Never steps back."""


@dataclass(frozen=True)
class Input:
    """One acquired input. `cursor` is where the source goes on after this one (None: the source cannot resume).
    `data` is as acquired (encoded image bytes, JSON list of numbers), empty for a picture that came without such bytes or with too many for a
    sample; `values` the graph input without the batch axis, or None with `refusal` saying why it could not be read (a stable word: corrupt-image,
    bad-row ...). `follows`: nothing of its stream is known to be missing between it and the input before it."""

    id: str
    at: datetime
    cursor: str | None
    media_type: str
    data: bytes
    values: np.ndarray | None
    refusal: str | None = None
    follows: bool = True


class Source(Protocol):
    def read(self, spec: InputSpec, after: str | None) -> Iterator[Input | None]:
        """Inputs after the cursor, in order, shaped for `spec`; None when there is none just now (the caller waits). A source that knows when one
        comes may wait for it, a quarter of a second at most, before a second None in a row. Ends when the source is exhausted.
        Raises Fatal for a source that can never fit (a CSV without the wanted columns)."""

    def losses(self) -> dict[str, int]:
        """Inputs that were acquired since the last call and will never come out of `read`, by reason (a stable word: queue-full, out-of-order ...)."""

    def close(self) -> None: ...


class Store(Protocol):
    """The durable outbox. What `append` has returned from survives power loss; it leaves only by `acknowledge` or by a counted drop."""

    @property
    def epoch(self) -> str:
        """A new one begins with a new outbox; while running too, where damage leaves the numbers in doubt."""

    def append(self, records: Sequence[Record], *, cursor: str | None = None, marks: dict[str, str] | None = None) -> None:
        """Commit the records, the source's cursor and named marks together or not at all, and wait for it. Raises Retry (disk)."""

    def submit(
        self, records: Sequence[Record], *, cursor: str | None = None, marks: dict[str, str] | None = None, follow: Follow | None = None
    ) -> bool:
        """The same without waiting for the disk: they are committed in order, soon, together or not at all. False: too much waits for the disk
        already, and nothing was taken. The batch of the first result carries the Trace of `follow`."""

    def drop(self, records: Sequence[Record], reason: str) -> None:
        """Count records that the store never took as dropped, for a reason that is a stable word. Never waits."""

    def cursor(self) -> str | None: ...

    def mark(self, name: str) -> str | None:
        """A named string that was given with some records (None: never)."""

    def batches(self, max_batches: int, *, fresh: bool, lanes: Collection[Lane] = tuple(Lane)) -> list[Batch]:
        """Sealed ones of these lanes that were not handed out yet, highest lane first. `fresh`: all of the events lane, and of the others what was
        appended since the last `rewind` of everything; else the rest, oldest first."""

    def rewind(self, units: Sequence[tuple[Lane, int]] | None = None) -> None:
        """Everything that is not acknowledged is to be handed out again, and what is appended from now on is fresh: a new connection. Or only
        `units`, by lane and first number, which could not be sent; those that are gone by now are not missed."""

    def acknowledge(self, lane: Lane, ranges: Sequence[tuple[int, int]]) -> None: ...

    def ledger(self) -> dict[Lane, LaneLedger]: ...

    def disk(self) -> DiskUse: ...

    def follow(self, follow: Follow) -> None:
        """The batch that carries the next result carries a Trace too."""


class Sent(Protocol):
    """A message that was handed to the connection."""

    def unheard(self) -> bool:
        """Whether it is known that it went to nobody; never waits."""


class Link(Protocol):
    """The way to the server."""

    @property
    def connected(self) -> bool: ...

    def send(self, message: FromDevice) -> Sent:
        """Raises Retry when offline."""

    def subscribe(self, topic: str) -> None:
        """Hear one shared topic too, on later connections as well; the server knows before it gets what is sent afterwards."""

    def unsubscribe(self, topic: str) -> None: ...


@dataclass(frozen=True)
class Measurement:
    """What one variant showed on one backend of this board. `verdict` is "right", or the code of why not, told in `message`; figures that were not
    reached are 0. Latencies are of one input, seen by the supervisor; `memory_bytes` is the worker's proportional share (PSS) after them."""

    variant: str
    backend: str
    verdict: str
    message: str = ""
    latency_p50_us: float = 0.0
    latency_p99_us: float = 0.0
    memory_bytes: int = 0
    load_ms: float = 0.0
    max_difference: float = 0.0

    @property
    def is_right(self) -> bool:
        return self.verdict == "right"


@dataclass(frozen=True)
class Choice:
    """A variant on a backend, as a Measurement names them."""

    variant: str
    backend: str


@dataclass(frozen=True)
class Proof:
    """A bundle gave its known answers in a sandboxed child on this board: by `chosen`, the fastest right one of all that were measured.
    `walls` are what the kernel granted the sandbox: network, writing, files or devices, calls."""

    sha256: str
    chosen: Measurement
    measurements: tuple[Measurement, ...]
    walls: tuple[str, ...] = ()


@dataclass(frozen=True)
class ActiveModel:
    """The bundle that `infer` runs now, by its archive's digest. `priors` are those of fleet_contract.answers."""

    sha256: str
    manifest: Manifest
    reference: Reference
    priors: np.ndarray | None = field(default=None, compare=False)


@dataclass(frozen=True)
class Inference:
    """`outputs` are those of the manifest's signature, finite where it says so, by the bundle `sha256`."""

    sha256: str
    manifest: Manifest
    outputs: Tensors
    latency_us: int
    reference: Reference
    priors: np.ndarray | None = None


@dataclass(frozen=True)
class Conduct:
    """What one bundle has done since it was activated in this process. `answered` counts inputs; the others requests: `requests` were answered, of
    them `slow` later than the manifest's latency limit grants their rows. No usable answer: lost workers (`crashes` ended, `hangs` met their
    deadline), answers that were not finite, of another shape or refused by the engine (`wrong`), allocations beyond the memory limit.
    `busy_us` is the time of the answers."""

    answered: int = 0
    requests: int = 0
    crashes: int = 0
    hangs: int = 0
    non_finite: int = 0
    wrong: int = 0
    over_memory: int = 0
    slow: int = 0
    busy_us: int = 0

    @property
    def errors(self) -> int:
        """Requests without a usable answer."""
        return self.crashes + self.hangs + self.non_finite + self.wrong + self.over_memory


class Inferring(Protocol):
    """What answers inputs: a host, or what stands before one."""

    def active(self) -> ActiveModel | None:
        """What `infer` will run next; None before the first activation."""

    def infer(self, inputs: Tensors, *, timeout_s: float | None = None) -> Inference:
        """One micro-batch on the active model; states and constants that are left out are filled in (zeros, the manifest's). A lost worker is
        started anew by the next call. Raises Retry with code no-model, model-swapped (the batch has another model's shape), overloaded (too many
        wait already), deadline (no worker was free, or answered, within `timeout_s`; None: the settings'), worker-crashed, worker-timeout or
        worker-unavailable; Reject with code non-finite, wrong-answer ..."""


class Host(Inferring, Protocol):
    """Runs models in child processes; the supervisor never opens one. A bundle is handed over opened and checked, never as a path: what was
    verified is what runs, whatever happens to the file."""

    def prove(self, bundle: Bundle) -> Proof:
        """Open the bundle in a new sandboxed child and hold it to its known answers and limits; the active model serves on.
        Raises Reject with codes bundle, bad-model, no-variant, child-crash, child-timeout, memory, wrong-answer, non-finite, too-slow; Unproven,
        which holds what was measured, where something was tried."""

    def activate(self, bundle: Bundle, chosen: Choice | None = None) -> None:
        """Start (or swap to) the worker of this proven bundle without dropping a request. What another process has proven is proven again: by
        `chosen`, its choice, alone if that is right still; else by whatever is. Raises Reject or Retry."""

    def examine(self) -> None:
        """Ask the worker that serves its bundle's known answers once more. Raises Reject with the codes of `prove`, or Retry with those of `infer`."""

    def conduct(self, sha256: str) -> Conduct:
        """Of this bundle in this process; of the active one and the one before it, zeros for any other."""

    def deactivate(self) -> None:
        """Run no model: `infer` raises Retry (no-model) until the next activation."""

    def close(self) -> None: ...


class Guest(Protocol):
    """Runs one bundle beside the one that serves: it is asked the same inputs, and nobody gets its answers. Where memory does not suffice for both it
    is refused (Reject, code no-room). `prove` and `start` raise as Host's; after `end` its slot may be written."""

    def prove(self, bundle: Bundle) -> Proof: ...

    def start(self, bundle: Bundle, chosen: Choice | None = None) -> None: ...

    def end(self) -> None: ...

    def running(self) -> str | None: ...


class Sink(Protocol):
    """Where results go beside the store: at most once each, never waited for."""

    def emit(self, results: Sequence[Result]) -> None:
        """Takes them or drops and counts them, at once."""

    def dropped(self) -> int: ...

    def close(self) -> None: ...
