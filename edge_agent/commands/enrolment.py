"""`edge-agent enrol`: how a device comes to its identity."""

import argparse
import sys

from edge_agent.commands.options import add_parser, add_state, say
from edge_agent.config import StateFolder
from edge_agent.errors import Fatal

_EXAMPLES = """examples:
  edge-agent enrol --server https://fleet.example:8443 --token ef1.... --device camera-3 --state /var/lib/edge-agent
  edge-agent enrol --server https://fleet.example:8443 --token - --device camera-3 --state /var/lib/edge-agent < token.txt
"""


def add(commands) -> None:
    sub = add_parser(commands, "enrol", _enrol, "turn a one-time token into this device's identity", _EXAMPLES)
    add_state(sub)
    sub.add_argument("--server", required=True, metavar="URL", help="https://host:port of the fleet server")
    sub.add_argument("--token", required=True, metavar="TOKEN", help="the one-time token; - reads it from stdin")
    sub.add_argument("--device", required=True, metavar="ID", help="the device id that the token was made for")


def _enrol(options: argparse.Namespace) -> int:
    from edge_agent.clock import BUILT_AT  # the parsers must answer at once on a small board
    from edge_agent.enrol import enrol, parse_server
    from fleet_contract import enrolment, names

    text = sys.stdin.readline() if options.token == "-" else options.token
    token = enrolment.parse(text)
    device_id = names.device_id(options.device)
    state = StateFolder(options.state)
    with state.lock() as alone:
        if not alone:
            raise Fatal(f"an agent (process {state.owner()}) works on {state.root}", code="locked")
        device = enrol(parse_server(options.server), token, device_id, state.identity, lambda: BUILT_AT)
    say(f"{device.device_id} belongs to fleet {device.fleet}: profile {device.profile}, task {device.task}, broker {device.broker_url}")
    return 0
