"""The whole loop on real scans, with real processes: `python -m examples.digits.demo`. Exit code 0 only if the loop closed."""

import json
import signal
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from examples.digits import scenario, verdict
from hil.errors import RigError
from hil.fleet import FleetRig
from hil.screen import Screen

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
_NOTHING = {
    "accuracy": dict.fromkeys(verdict.Accuracy.__dataclass_fields__),
    "false_alarms": None,
    "labels": None,
    "lost": None,
    "duplicated": None,
}


@app.command()
def run(
    home: Annotated[Path, typer.Option(help="Folder of this run; wiped at the start.")] = Path(".demo"),
    broker: Annotated[str, typer.Option(help="auto, mosquitto or embedded.")] = "auto",
    keep: Annotated[bool, typer.Option("--keep", help="Leave it running at the end, until Ctrl-C.")] = False,
) -> None:
    """Train, sign, roll out, watch, retrain and roll out again, on three virtual cameras."""
    signal.signal(signal.SIGTERM, _interrupt)
    screen = Screen(Console())
    try:
        with FleetRig(home.resolve()) as fleet:
            line = _play(fleet, screen, broker)
            if keep:
                _show_access(fleet, screen)
            _say_last(line)
            if keep:
                _linger()
    except (RigError, KeyboardInterrupt) as error:
        screen.say(f"\nThe loop did not close: {str(error) or 'stopped'}\nLogs: {home.resolve() / 'logs'}")
        line = {"closed": False, **_NOTHING, "seconds": round(screen.elapsed_s, 1)}
        _say_last(line)
    raise typer.Exit(0 if line["closed"] else 1)


def _play(fleet: FleetRig, screen: Screen, broker: str) -> dict:
    """Every step, the summary, and the last line. Raises RigError when a step does not come to its end."""
    played = scenario.prepare(fleet, screen)
    scenario.start_server(played, broker)
    scenario.release(played)
    scenario.enrol(played)
    scenario.film_clean(played)
    scenario.film_fault(played)
    scenario.await_drift(played)
    scenario.film_choice(played)
    scenario.label(played)
    scenario.await_retraining(played)
    scenario.roll_out(played)
    seen = scenario.look(played)
    why_not = verdict.reasons(seen)
    _summarise(screen, played, seen)
    for reason in why_not:
        screen.say(f"NOT CLOSED: {reason}")
    return verdict.last_line(seen, why_not)


def _summarise(screen: Screen, played: scenario.Run, seen: verdict.Seen) -> None:
    columns = ["camera", "champion, before the fault", "champion, after it", "challenger, after it"]
    screen.table("Accuracy", columns, verdict.accuracy_rows(seen))
    screen.table("Records", ["device", "lane", "produced", "stored", "queued", "dropped"], verdict.ledger_rows(seen))
    screen.table("Key figures", ["what", "how much"], scenario.figures(played))


def _show_access(fleet: FleetRig, screen: Screen) -> None:
    state = fleet.server.state()
    screen.say(
        f"\nStill running, until Ctrl-C. API: {state.https_url}/docs  metrics: {state.https_url}/metrics  broker: {state.broker_url}"
    )
    screen.say(f"CA: {fleet.server.ca}  admin token: {fleet.server.token}")


def _say_last(line: dict) -> None:
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


def _linger() -> None:
    try:
        signal.pause()
    except KeyboardInterrupt:
        return


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    app()
