"""Brings targets: what is here already, then a delta if it is worth it, then the rest of the blocks by the ways there are."""

import logging
import threading
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from edge_agent.delivery import deltas, reuse
from edge_agent.delivery.pace import LEAST_BYTES_PER_S, SPAN_S, Manners, Pulse
from edge_agent.delivery.pacer import Pacer
from edge_agent.delivery.part import Part, open_part
from edge_agent.delivery.ports import Fetched, Held, Target, Wish
from edge_agent.delivery.transport import Errand, Transport
from edge_agent.errors import Reject, Retry
from edge_agent.ports import Clock

log = logging.getLogger(__name__)

_NOT_THE_WAYS_FAULT = frozenset({"superseded", "closing", "window", "disk"})
"""Another way would not help."""

Way = Literal["mqtt", "http", "delta"]


@dataclass(frozen=True)
class Download:
    """How far it is: bytes that are right on the disk, of how many, and by which way the next ones come."""

    path: str
    done_bytes: int
    length_bytes: int
    way: Way


@dataclass(frozen=True)
class Ways:
    """`shared` may leave blocks over; the other two can bring all."""

    shared: Transport
    one_to_one: Transport
    http: Transport


class Downloads:
    """delivery.ports.Delivery. One `bring` at a time; the rest from any thread. `look_up` finds a signed target by its path; `busy` see Pacer."""

    def __init__(
        self, ways: Ways, look_up: Callable[[str], Target], manners: Manners, clock: Clock, *, busy: Callable[[], bool] = lambda: False
    ) -> None:
        self._ways, self._look_up, self._manners, self._clock, self._busy = ways, look_up, manners, clock, busy
        self._closing = threading.Event()
        self._download: Download | None = None

    @property
    def download(self) -> Download | None:
        """The one that runs now."""
        return self._download

    def close(self) -> None:
        """A `bring` that runs raises Retry soon."""
        self._closing.set()

    def bring(self, target: Target, part: Path, held: Sequence[Held], wish: Wish) -> Fetched:
        pacer = Pacer(self._manners, self._clock, wanted=wish.wanted, busy=self._busy, closing=self._closing)
        pacer.check()
        patch = part.with_name(f"{part.name}.delta")
        try:
            with open_part(part, target.index) as file:
                reuse.take(file, held)
                job = _Job(target, file, ways(self._manners, self._ways, wish), pacer)
                fetched = self._fill(job, held, patch)
                file.finish(target.sha256)
            patch.unlink(missing_ok=True)
        except OSError as error:
            raise Retry(f"{part}: {error}", code="disk") from error
        finally:
            self._download = None
        return fetched

    def _fill(self, job: "_Job", held: Sequence[Held], patch: Path) -> Fetched:
        here = job.target.length - job.part.lacking_bytes
        if not job.part.need:
            return Fetched(0, here, "nothing")
        delta_bytes = self._by_delta(job, held, patch)
        if not job.part.need:
            return Fetched(delta_bytes, here, "delta")
        lacking_bytes = job.part.lacking_bytes
        way = self._by_blocks(job)
        return Fetched(delta_bytes + lacking_bytes, job.target.length - lacking_bytes, way)

    def _by_delta(self, job: "_Job", held: Sequence[Held], patch: Path) -> int:
        """How many bytes it cost; the part tells whether it helped."""
        chosen = deltas.choose(job.target, held, job.part.lacking_bytes, self._look_up)
        if chosen is None:
            return 0
        fetched_bytes = 0
        try:
            with open_part(patch, chosen.target.index) as file:
                lacking_bytes = file.lacking_bytes
                try:
                    self._by_blocks(_Job(chosen.target, file, job.ways, job.pacer), "delta")
                finally:
                    fetched_bytes = lacking_bytes - file.lacking_bytes
                file.finish(chosen.target.sha256)
            deltas.apply(chosen.base.path, patch, job.part)
        except (Retry, Reject) as error:
            if error.code in _NOT_THE_WAYS_FAULT and error.code != "disk":  # the file itself has its room already
                raise
            log.info("the delta is given up: %s", error)
        return fetched_bytes

    def _by_blocks(self, job: "_Job", shown: Way | None = None) -> Literal["mqtt", "http"]:
        """By one way after the other. Raises Retry as the last of them did, whatever a server says: it may only delay."""
        trouble: Retry | Reject | None = None
        for transport in job.ways:
            try:
                self._carry(job, transport, shown or transport.way)
                trouble = None
            except (Retry, Reject) as error:
                if error.code in _NOT_THE_WAYS_FAULT:
                    raise
                log.info("%s by %s: %s", job.target.path, transport.way, error)
                trouble = error
            if not job.part.need:
                return transport.way
        code = trouble.code if trouble else "deadline"
        raise Retry(f"{len(job.part.need)} blocks of {job.target.path} did not come: {trouble or 'the server fell silent'}", code=code)

    def _carry(self, job: "_Job", transport: Transport, shown: Way) -> None:
        index, part, pacer = job.part.index, job.part, job.pacer
        errand = Errand(job.target.fetch_path, index.length, index.block_bytes, part.need, pacer)
        pulse = Pulse(self._clock.monotonic_s() - pacer.rested_s)
        with closing(transport.carry(errand)) as blocks:
            for block in blocks:
                right_bytes = len(block[1]) if block and part.write(*block) else 0
                pacer.took(len(block[1]) if block else 0)
                self._download = Download(job.target.path, index.length - part.lacking_bytes, index.length, shown)
                beaten = pulse.beat(right_bytes, self._clock.monotonic_s() - pacer.rested_s)
                if beaten is None:
                    raise Retry(f"fewer than {LEAST_BYTES_PER_S} right bytes a second in {SPAN_S:g} s", code="too-slow")
                pulse = beaten


@dataclass(frozen=True)
class _Job:
    target: Target
    part: Part
    ways: Sequence[Transport]
    pacer: Pacer


def ways(manners: Manners, ways: Ways, wish: Wish) -> list[Transport]:
    """In the order in which they are tried: what the device's owner says, else what the order prefers, else MQTT."""
    mqtt = [ways.shared, ways.one_to_one] if manners.joins_passes else [ways.one_to_one]
    if manners.transport == "mqtt":
        return mqtt
    first = wish.transport if manners.transport == "auto" else manners.transport
    return [ways.http, *mqtt] if first == "http" else [*mqtt, ways.http]
