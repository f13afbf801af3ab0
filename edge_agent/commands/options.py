"""What the commands have in common: options, where they write, how they end."""

import argparse
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from edge_agent.config import StateFolder
from edge_agent.errors import Fatal
from fleet_contract.signals import Signals

FAILED, BAD_INPUT = 1, 2

Command = Callable[[argparse.Namespace], int]


def add_parser(commands, name: str, command: Command, summary: str, examples: str = "") -> argparse.ArgumentParser:
    sub = commands.add_parser(
        name, help=summary, description=summary, epilog=examples, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    sub.set_defaults(command=command)
    return sub


def add_state(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--state", type=Path, required=True, metavar="DIR", help="the agent's private state folder")


def add_json(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--json", action="store_true", help="as one JSON object")


def existing(root: Path) -> StateFolder:
    """Raises Fatal."""
    if not root.is_dir():
        raise Fatal(f"there is no state folder {root}", code="no-state")
    return StateFolder(root)


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def stopped_by_signals() -> threading.Event:
    """Set by SIGTERM and SIGINT from now on."""
    stop = threading.Event()
    Signals().pass_to(stop.set)
    return stop
