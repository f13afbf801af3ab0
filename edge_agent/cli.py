"""The command line. Exit codes: 0 done, 1 failed, 2 bad input or usage."""

import argparse
import sys
import traceback

from edge_agent import __version__
from edge_agent.commands import enrolment, holdings, profile, running, serving, tuf
from edge_agent.commands.options import BAD_INPUT, FAILED
from edge_agent.errors import AgentError, Fatal
from fleet_contract import logs
from fleet_contract.errors import ContractError

_EXAMPLES = """examples:
  edge-agent enrol --server https://fleet.example:8443 --token ef1.... --device camera-3 --state /var/lib/edge-agent
  edge-agent profile detect
  edge-agent run --state /var/lib/edge-agent --source camera:/dev/video0
  edge-agent --log-format json run --state /var/lib/edge-agent --source csv:readings.csv
  edge-agent serve --bundle digits-1.0.0.bundle --http 127.0.0.1:8080
  edge-agent status --state /var/lib/edge-agent --json
  edge-agent quarantine --state /var/lib/edge-agent --clear
"""


def main(arguments: list[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    # python-tuf tells of each signature above the threshold that is not there
    logs.configure(sys.stderr, options.log_level, options.log_format, {} if options.log_level == "debug" else {"tuf": "warning"})
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
    parser.add_argument("--log-format", default="text", choices=logs.FORMS, help="json: one JSON object a line (default: text)")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for noun in (enrolment, running, serving, holdings, profile, tuf):
        noun.add(commands)
    return parser


def _fail(error: Exception, code: int) -> int:
    name = getattr(error, "code", type(error).__name__)
    sys.stderr.write(f"edge-agent: {error} [{name}]\n")
    return code


if __name__ == "__main__":
    sys.exit(main())
