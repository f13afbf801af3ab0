"""The command line: hil fleet. Exit codes: 0 the ledger balances; 1 it does not, nobody connected, or a program failed; 2 bad input."""

import json
import signal
import sys
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Annotated, Any, NoReturn

import msgspec
import typer
from rich.console import Console

from fleet_contract import limits
from fleet_contract.errors import ContractError
from hil.errors import BadHome, BadScenario, Refused, RigError
from hil.screen import Screen
from hil.virtual_fleet import picture, report, scenario, target
from hil.virtual_fleet.play import Play, Target, play
from hil.virtual_fleet.scenario import Scenario

_EXAMPLES = (
    "Examples: hil fleet --devices 1000 --home ./virtual --scenario examples/scenarios/outage.toml; "
    "hil fleet --devices 5000 --duration 120 --server https://fleet.example:8443 --ca ca.pem --token-file token --identities ./virtual"
)
_Path = Path | None
app = typer.Typer(
    no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help="Rigs that drive edgefleet from outside."
)


@app.callback()
def options() -> None:
    """Without it the one command would have no name."""


@app.command(epilog=_EXAMPLES)
def fleet(
    devices: Annotated[int, typer.Option(min=1, max=limits.MAX_VIRTUAL_DEVICES_COUNT)] = 100,
    scenario_file: Annotated[_Path, typer.Option("--scenario", help="TOML file; a steady minute by default.")] = None,
    home: Annotated[_Path, typer.Option(help="Start a server of its own below this folder, which is wiped.")] = None,
    broker: Annotated[str, typer.Option(help="With --home: auto, mosquitto or embedded.")] = "auto",
    database_url: Annotated[str | None, typer.Option(help="With --home: SQLite by default.")] = None,
    bundle: Annotated[_Path, typer.Option(help="With --home: publish this bundle and roll it out to all.")] = None,
    server: Annotated[str | None, typer.Option(help="Without --home: https://host:port of a server that runs.")] = None,
    ca: Annotated[_Path, typer.Option(help="With --server: the fleet's CA certificate.")] = None,
    token_file: Annotated[_Path, typer.Option(help="With --server: file with an operator's token.")] = None,
    identities: Annotated[_Path, typer.Option(help="With --server: folder for the devices' keys, kept for the next run.")] = None,
    profile: Annotated[str, typer.Option(help="The devices' hardware profile.")] = "generic-x86-64",
    task: Annotated[str, typer.Option(help="The devices' task.")] = "virtual",
    processes: Annotated[int, typer.Option(min=1, max=64, help="That the devices are spread over.")] = 1,
    rate: Annotated[float | None, typer.Option(help="Telemetry messages a second of a device; overrides the scenario.")] = None,
    rows: Annotated[int | None, typer.Option(help="Results in a message; overrides the scenario.")] = None,
    duration: Annotated[float | None, typer.Option(help="Seconds of load; overrides the scenario.")] = None,
    html: Annotated[_Path, typer.Option(help="Write a page with the rates over time.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as one JSON object.")] = False,
) -> None:
    """Play a scenario with thousands of light devices, and compare their ledgers with the server's."""
    if html and not html.resolve().parent.is_dir():
        raise BadScenario(f"--html: {html.parent} is no folder")
    played = _overridden(scenario.load(scenario_file) if scenario_file else Scenario(), rate=rate, rows=rows, duration=duration)
    screen = Screen(Console(stderr=as_json))
    wish = Play(devices=devices, profile=profile, task=task, processes=processes, scenario=played)
    remote = {"--server": server, "--ca": ca, "--token-file": token_file, "--identities": identities}
    with _chosen(target.Own(home, broker, database_url, bundle) if home else None, remote, screen) as found:
        outcome, comparison = play(wish, found, screen)
    report.show(screen, outcome, comparison)
    if html:
        html.write_text(picture.page(outcome, comparison))
    if as_json:
        typer.echo(json.dumps(report.as_json(outcome, comparison)))
    raise typer.Exit(0 if comparison.balances and outcome.gathered.online else 1)


def main() -> None:
    """Entry point: every failure is one line on stderr. SIGTERM ends it as Ctrl-C does, with every program that it has started."""
    signal.signal(signal.SIGTERM, _end)
    try:
        app()
    except (BadScenario, BadHome, Refused, ContractError) as error:
        _fail(error, 2)
    except (RigError, OSError) as error:
        _fail(error, 1)


def _overridden(found: Scenario, *, rate: float | None, rows: int | None, duration: float | None) -> Scenario:
    """Raises BadScenario for a value out of its range."""
    content = msgspec.to_builtins(found)
    load = {"rate_per_s": rate, "records_per_message": rows}
    content["load"] |= {name: value for name, value in load.items() if value is not None}
    content |= {} if duration is None else {"duration_s": duration}
    return scenario.parse(content, "the scenario with --rate, --rows and --duration")


def _chosen(own: target.Own | None, remote: dict[str, Any], screen: Screen) -> AbstractContextManager[Target]:
    """Raises BadScenario."""
    given = [name for name, value in remote.items() if value is not None]
    if own is not None and given:
        raise BadScenario(f"--home starts a server of its own: {given[0]} has no place beside it")
    if own is not None:
        return target.started(own, screen)
    missing = [name for name, value in remote.items() if value is None]
    if missing:
        raise BadScenario(f"give --home, or --server with all that belongs to it: {missing[0]} is missing")
    return target.reached(target.Remote(*remote.values()))


def _end(number: int, _: object) -> NoReturn:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sys.exit(128 + number)


def _fail(error: Exception, code: int) -> None:
    sys.stderr.write(f"hil: {error}\n")
    sys.exit(code)
