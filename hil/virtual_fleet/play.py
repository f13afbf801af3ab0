"""One run from the first token to the last line of the ledger."""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hil.client import Client
from hil.screen import Screen, Step
from hil.virtual_fleet import enrolment, running
from hil.virtual_fleet.comparison import Comparison, compare
from hil.virtual_fleet.identities import Identities, device_names
from hil.virtual_fleet.running import Outcome
from hil.virtual_fleet.scenario import Scenario
from hil.virtual_fleet.tally import Second

_CATCH_UP_S = 60.0
"""For the server to decode what it has acknowledged."""
_LOOK_S = 0.5


@dataclass(frozen=True)
class Play:
    devices: int
    profile: str
    task: str
    processes: int
    scenario: Scenario


@dataclass(frozen=True)
class Target:
    """A server that runs. `prepare` is called once all devices are enrolled; `log` takes what the processes complain of."""

    api: Client
    server_url: str
    identities: Identities
    log: Path
    prepare: Callable[[], None] = lambda: None


def play(wish: Play, target: Target, screen: Screen) -> tuple[Outcome, Comparison]:
    """Enrol, run, wait for the server to catch up, compare. Raises RigError."""
    names = device_names(wish.devices)
    with screen.step(f"Enrolling {wish.devices:,} devices") as step:
        new = enrolment.enrol(
            target.api,
            target.identities,
            names,
            profile=wish.profile,
            task=wish.task,
            server_url=target.server_url,
            tell=lambda done: step.update(f"{done:,}"),
        )
        step.say(f"{new:,} are new, the others are known from an earlier run")
    target.prepare()
    with screen.step(f"Playing {wish.scenario.name}, {wish.scenario.duration_s:g} s") as step:
        tell = _teller(step)
        outcome = running.run(
            target.identities,
            names,
            wish.scenario,
            processes=wish.processes,
            log=target.log,
            knows=lambda online: sum(each["online"] for each in target.api.items("/devices")) >= online,
            tell=tell,
        )
        gathered = outcome.gathered
        step.say(f"{gathered.online:,} of {wish.devices:,} were connected after {gathered.connected_s:.1f} s; then it began")
    with screen.step("Comparing ledgers") as step:
        comparison = settled_comparison(outcome, lambda: target.api.items("/ledger"), step.update)
    return outcome, comparison


def settled_comparison(outcome: Outcome, ledger: Callable[[], Iterable[Mapping[str, Any]]], tell: Callable[[str], None]) -> Comparison:
    """The first that balances; else the last one before patience ends. `ledger` gives the lines of GET /v1/ledger."""
    deadline_s = time.monotonic() + _CATCH_UP_S
    while True:
        comparison = compare(outcome.devices, ledger())
        if comparison.balances or time.monotonic() > deadline_s:
            return comparison
        tell(f"{comparison.stored:,} of {comparison.acknowledged:,} acknowledged records are decoded")
        time.sleep(_LOOK_S)


def _teller(step: Step) -> Callable[[Second], None]:
    def tell(second: Second) -> None:
        if second.at_s == 0:
            step.update(f"{second.online:,} are connected")
            return
        step.update(
            f"{second.at_s} s, {second.online:,} online, {second.produced:,} produced, {second.acknowledged:,} acknowledged, "
            f"{second.queued:,} wait, {second.again:,} messages sent again"
        )

    return tell
