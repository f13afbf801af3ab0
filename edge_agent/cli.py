"""The command line. Exit codes: 0 done, 1 failed, 2 bad input or usage."""

import argparse
import json
import logging
import signal
import sys
import threading
import time
import traceback
from pathlib import Path

from edge_agent import __version__
from edge_agent.config import Settings, StateFolder
from edge_agent.delivery import pace
from edge_agent.delivery.pace import Manners
from edge_agent.errors import AgentError, Fatal
from edge_agent.trust import command as tuf
from fleet_contract.errors import ContractError

FAILED, BAD_INPUT = 1, 2

_EXAMPLES = """examples:
  edge-agent enrol --server https://fleet.example:8443 --token ef1.... --device camera-3 --state /var/lib/edge-agent
  edge-agent run --state /var/lib/edge-agent --source camera:/dev/video0
  edge-agent run --state /var/lib/edge-agent --source csv:readings.csv
  edge-agent status --state /var/lib/edge-agent --json
  edge-agent quarantine --state /var/lib/edge-agent --clear
"""


def main(arguments: list[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    _log_to_stderr(options.log_level)
    try:
        return options.command(options)
    except (Fatal, ContractError) as error:
        return _fail(error, BAD_INPUT)
    except (AgentError, OSError) as error:
        return _fail(error, FAILED)
    except KeyboardInterrupt:
        return FAILED
    except Exception as error:  # noqa: BLE001 - the last line of defence of the program
        if options.log_level == "debug":
            traceback.print_exc()
        mistake = f"a mistake in this program: {type(error).__name__}: {error} (edge-agent --log-level debug COMMAND shows where)"
        return _fail(AgentError(mistake, code="internal"), FAILED)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="edge-agent",
        description="Runs the fleet's models on this device.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"edge-agent {__version__}")
    parser.add_argument(
        "--log-level", default="info", choices=["debug", "info", "warning", "error"], help="what goes to stderr (default: info)"
    )
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    tuf.add(commands)
    _add_enrol(commands)
    _add_run(commands)
    for name, command, summary in (
        ("status", _status, "what this device runs and what waits to be sent"),
        ("verify", _verify, "check the identity, the active bundle's digest and the signed metadata"),
        ("rollback", _rollback, "go back to the previous bundle, without the server"),
    ):
        _add_json(_add(commands, name, command, summary))
    _add_quarantine(commands)
    return parser


def _add(commands, name: str, command, summary: str) -> argparse.ArgumentParser:
    sub = commands.add_parser(name, help=summary, description=summary)
    sub.add_argument("--state", type=Path, required=True, metavar="DIR", help="the agent's private state folder")
    sub.set_defaults(command=command)
    return sub


def _add_json(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--json", action="store_true", help="as one JSON object")


def _add_enrol(commands) -> None:
    sub = _add(commands, "enrol", _enrol, "turn a one-time token into this device's identity")
    sub.add_argument("--server", required=True, metavar="URL", help="https://host:port of the fleet server")
    sub.add_argument("--token", required=True, metavar="TOKEN", help="the one-time token; - reads it from stdin")
    sub.add_argument("--device", required=True, metavar="ID", help="the device id that the token was made for")


def _add_run(commands) -> None:
    sub = _add(commands, "run", _run, "run the ordered model on a source until SIGTERM")
    default = Settings()
    sub.add_argument("--source", required=True, metavar="SOURCE", help="camera:FOLDER, camera:/dev/videoN or csv:FILE")
    sub.add_argument("--micro-batch", type=int, default=default.micro_batch, metavar="N", help="inputs that go to the model at once")
    sub.add_argument("--heartbeat", type=float, default=default.heartbeat_s, metavar="SECONDS", help="between two status messages")
    sub.add_argument("--outbox-bytes", type=int, default=default.outbox_max_bytes, metavar="BYTES", help="what may wait for the server")
    sub.add_argument("--probation-inputs", type=int, default=default.probation_inputs, metavar="N", help="answers a new bundle must give")
    sub.add_argument(
        "--recheck", type=float, default=default.recheck_s, metavar="SECONDS", help="between two looks at the installed bundles"
    )
    _add_downloads(sub)


def _add_downloads(sub: argparse.ArgumentParser) -> None:
    group = sub.add_argument_group(
        "downloads", "without these they go as fast as they can, at any time, and may share their blocks with others"
    )
    group.add_argument(
        "--transport",
        default="auto",
        choices=pace.WAYS,
        help="auto: as the order prefers, else MQTT; mqtt: nothing else; http: HTTPS first",
    )
    group.add_argument(
        "--download-rate", type=int, metavar="BYTES_PER_S", help="at most so fast, for this device alone (default: no limit)"
    )
    group.add_argument("--download-window", metavar="HH:MM-HH:MM", help="only then, UTC; may pass midnight")
    group.add_argument("--metered", action="store_true", help="fetch nothing that this device does not need itself")


def _add_quarantine(commands) -> None:
    sub = _add(commands, "quarantine", _quarantine, "the bundles that were bad on this device and are not tried again")
    sub.add_argument("--clear", action="store_true", help="forget them: what is ordered is tried again")
    _add_json(sub)


def _enrol(options: argparse.Namespace) -> int:
    from edge_agent.clock import BUILT_AT
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
    _say(f"{device.device_id} belongs to fleet {device.fleet}: profile {device.profile}, task {device.task}, broker {device.broker_url}")
    return 0


def _run(options: argparse.Namespace) -> int:
    from edge_agent import app  # the parsers above must answer at once on a small board

    settings = Settings(
        micro_batch=options.micro_batch,
        heartbeat_s=options.heartbeat,
        outbox_max_bytes=options.outbox_bytes,
        probation_inputs=options.probation_inputs,
        recheck_s=options.recheck,
        manners=_manners(options),
    )
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    app.run(StateFolder(options.state), options.source, settings, stop)
    return 0


def _manners(options: argparse.Namespace) -> Manners:
    window = pace.parse_window(options.download_window) if options.download_window is not None else None
    return Manners(options.transport, options.download_rate, window, options.metered)


def _status(options: argparse.Namespace) -> int:
    from edge_agent import inspection

    found = inspection.status(_existing(options.state))
    _say(json.dumps(found) if options.json else inspection.status_text(found))
    return 0


def _verify(options: argparse.Namespace) -> int:
    from edge_agent import inspection
    from edge_agent.clock import BUILT_AT, SystemClock
    from edge_agent.trust.time import TrustedTime

    state = _existing(options.state)
    findings = inspection.verify(state, TrustedTime(state.time, SystemClock(), BUILT_AT).now())
    sound = all(finding.ok for finding in findings)
    if options.json:
        _say(json.dumps({"ok": sound, "checks": {f.what: {"ok": f.ok, "text": f.text} for f in findings}}))
    else:
        _say("\n".join(f"{'ok    ' if f.ok else 'FAILED'}  {f.what}: {f.text}" for f in findings))
    return 0 if sound else FAILED


def _rollback(options: argparse.Namespace) -> int:
    from edge_agent import inspection

    asked = inspection.ask_rollback(_existing(options.state))
    _say(json.dumps(asked) if options.json else inspection.rollback_text(asked))
    return 0


def _quarantine(options: argparse.Namespace) -> int:
    from edge_agent import inspection

    state = _existing(options.state)
    digests = inspection.quarantined(state)
    told = inspection.ask_pardon(state) if options.clear else "\n".join(digests) or "none"
    _say(json.dumps({"quarantined": digests, "clearing": options.clear}) if options.json else told)
    return 0


def _existing(root: Path) -> StateFolder:
    if not root.is_dir():
        raise Fatal(f"there is no state folder {root}", code="no-state")
    return StateFolder(root)


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")


def _fail(error: Exception, code: int) -> int:
    name = getattr(error, "code", type(error).__name__)
    sys.stderr.write(f"edge-agent: {error} [{name}]\n")
    return code


def _log_to_stderr(level: str) -> None:
    logging.Formatter.converter = time.gmtime
    logging.basicConfig(
        stream=sys.stderr,
        level=level.upper(),
        format="%(asctime)s.%(msecs)03dZ %(levelname)-7s %(name)s: %(message)s",
        datefmt="%Y-%m-%dT%H:%M:%S",
    )
    if level != "debug":
        logging.getLogger("tuf").setLevel(logging.WARNING)  # it tells of each signature above the threshold that is not there


if __name__ == "__main__":
    sys.exit(main())
