"""Runs a virtual fleet: its processes, who connect everybody before anything else begins, what they say while they go, and what they counted."""

import os
import select
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from hil.errors import ProgramFailed
from hil.virtual_fleet import crew
from hil.virtual_fleet.identities import Identities
from hil.virtual_fleet.scenario import Scenario
from hil.virtual_fleet.script import Phase, Script
from hil.virtual_fleet.tally import DeviceCounts, PhaseTally, Second, together, total

_PATIENCE_S = 30.0
"""While nobody more connects, or the server does not know of those who have."""
_LEAD_S = 0.3
"""From the word to begin to the beginning."""
_GRACE_S = 30.0
_STOP_S = 10.0
_READ_BYTES = 65_536


@dataclass(frozen=True)
class Gathered:
    """Before the start: so many were connected after `connected_s`, and `known_s` later the server knew it. `cpu_s` of all processes together."""

    online: int
    connected_s: float
    known_s: float
    cpu_s: float = 0.0


@dataclass(frozen=True)
class Outcome:
    """`phases` with what was counted in each; `settled_s` from the start to the last acknowledgement; `cpu_s` of all processes together."""

    scenario: Scenario
    phases: list[tuple[Phase, PhaseTally]]
    seconds: list[Second]
    devices: list[DeviceCounts]
    settled_s: float | None
    cpu_s: float
    gathered: Gathered

    @property
    def total(self) -> PhaseTally:
        return total(tally for _, tally in self.phases)


def run(
    identities: Identities,
    devices: Sequence[str],
    scenario: Scenario,
    *,
    processes: int,
    log: Path,
    broker_url: str | None = None,
    knows: Callable[[int], bool] = lambda _: True,
    tell: Callable[[Second], None] = lambda _: None,
) -> Outcome:
    """Connect these devices, and play the scenario to its end. It begins once all are connected and the server `knows` so many, or when neither has
    made progress for long. `tell` hears how things stand: until the start as second 0, then once a second. Raises ProgramFailed."""
    belonging = identities.belonging()
    shares = [list(devices[number::processes]) for number in range(min(processes, len(devices)))]
    plan = crew.Plan(
        devices=[],
        profile=belonging.profile,
        broker_url=broker_url or belonging.broker_url,
        ca=str(identities.ca),
        identities=str(identities.folder),
        orders_keys=belonging.orders_keys,
        scenario=scenario,
    )
    hands: list[_Hand] = []
    try:
        hands = [_Hand(msgspec.structs.replace(plan, devices=share), log) for share in shares]
        gathered = _gather(hands, len(devices), knows, tell)
        begin_s = time.monotonic() + _LEAD_S
        for hand in hands:
            hand.begin(begin_s)
        deadline_s = begin_s + scenario.duration_s + scenario.settle_s + _GRACE_S
        seconds = _listen(hands, deadline_s, tell)
    finally:
        for hand in hands:
            hand.close()
    return _outcome(scenario, [hand.done for hand in hands if hand.done], seconds, gathered)


class _Hand:
    """One process, from its start to its last word."""

    def __init__(self, plan: crew.Plan, log: Path) -> None:
        self.log = log
        with log.open("ab") as errors:
            command = [sys.executable, "-m", "hil.virtual_fleet.worker"]
            self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors)
        self.done: crew.Done | None = None
        self.seconds: list[Second] = []
        """Since the start."""
        self.latest: Second | None = None
        self._rest = b""
        self._write(crew.encode(plan) + b"\n")

    def begin(self, begin_s: float) -> None:
        self._write(crew.encode(crew.Start(begin_s)) + b"\n")

    def fileno(self) -> int:
        return self._out.fileno()

    def read(self) -> None:
        """Everything that it has said by now. Raises ProgramFailed when that is its end, and it has not said what it counted."""
        data = os.read(self.fileno(), _READ_BYTES)
        if not data:
            self.process.wait(_STOP_S)
            raise ProgramFailed(f"a process of the virtual fleet ended with code {self.process.returncode}; see {self.log}")
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._take(crew.decode_said(line))

    def _take(self, said: crew.Said) -> None:
        if isinstance(said, crew.Done):
            self.done = said
            return
        self.latest = said.second
        if said.second.at_s > 0:
            self.seconds.append(said.second)

    def close(self) -> None:
        if self.process.stdin:
            self.process.stdin.close()
        try:
            self.process.wait(_STOP_S if self.done else 0.0)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._out.close()

    @property
    def _out(self):
        if self.process.stdout is None:
            raise ProgramFailed("a process of the virtual fleet has no output")
        return self.process.stdout

    def _write(self, data: bytes) -> None:
        try:
            if self.process.stdin:
                self.process.stdin.write(data)
                self.process.stdin.flush()
        except BrokenPipeError as error:
            raise ProgramFailed(f"a process of the virtual fleet has ended; see {self.log}") from error


def _gather(hands: Sequence[_Hand], wanted: int, knows: Callable[[int], bool], tell: Callable[[Second], None]) -> Gathered:
    """Until all are connected and known, or as many as come."""
    first_s = progress_s = time.monotonic()
    connected_s, online = 0.0, -1
    while True:
        for hand in select.select(hands, [], [], 1.0)[0]:
            hand.read()
        now_s, latest = time.monotonic(), [hand.latest for hand in hands if hand.latest is not None]
        if latest:
            found = together(latest)[0]
            tell(found)
            first_s = now_s if online < 0 else first_s
            if found.online > online:
                online, progress_s, connected_s = found.online, now_s, now_s - first_s
        if (online >= wanted and knows(online)) or now_s > progress_s + _PATIENCE_S:
            return Gathered(online, connected_s, now_s - first_s - connected_s)


def _listen(hands: Sequence[_Hand], deadline_s: float, tell: Callable[[Second], None]) -> list[Second]:
    told_s = 0
    while waiting := [hand for hand in hands if hand.done is None]:
        if time.monotonic() > deadline_s:
            raise ProgramFailed(f"the virtual fleet did not end in time; see {waiting[0].log}")
        ready, _, _ = select.select(waiting, [], [], 1.0)
        for hand in ready:
            hand.read()
        latest = [hand.latest for hand in hands if hand.latest is not None]
        if latest and max(second.at_s for second in latest) > told_s:
            told_s = max(second.at_s for second in latest)
            tell(together(msgspec.structs.replace(second, at_s=told_s) for second in latest)[0])
    return together(second for hand in hands for second in hand.seconds)


def _outcome(scenario: Scenario, done: Sequence[crew.Done], seconds: list[Second], gathered: Gathered) -> Outcome:
    phases = Script(scenario).phases()
    tallies = [total(each.tallies[number] for each in done) for number in range(len(phases))]
    settled = [each.settled_s for each in done if each.settled_s is not None]
    return Outcome(
        scenario=scenario,
        phases=list(zip(phases, tallies, strict=True)),
        seconds=seconds,
        devices=sorted((device for each in done for device in each.devices), key=lambda device: device.device),
        settled_s=max(settled, default=None),
        cpu_s=sum(each.cpu_s for each in done),
        gathered=replace(gathered, cpu_s=sum(each.connecting_cpu_s for each in done)),
    )
