"""`edge-agent run`: the daemon."""

import argparse
from pathlib import Path
from typing import TypeVar

import msgspec

from edge_agent import device_file
from edge_agent.commands.options import add_parser, add_state, stopped_by_signals
from edge_agent.config import Settings, StateFolder
from edge_agent.deferral import defer
from edge_agent.delivery import pace
from edge_agent.delivery.pace import Manners
from edge_agent.device_file import DeviceFile
from edge_agent.errors import Fatal
from edge_agent.hours import parse_window
from edge_agent.link.settings import UplinkSettings
from edge_agent.outbox.settings import OutboxSettings
from edge_agent.sources.address import GRAMMAR

_Table = TypeVar("_Table", OutboxSettings, UplinkSettings)
_EXAMPLES = """examples:
  edge-agent run --state /var/lib/edge-agent --source camera:/dev/video0
  edge-agent run --state /var/lib/edge-agent --source csv:readings.csv
  edge-agent run --state /var/lib/edge-agent --config /etc/edge-agent/agent.toml
  edge-agent run --state /var/lib/edge-agent --source csv:readings.csv --uplink-rate 4096 --quiet-hours 07:00-19:00
"""


def add(commands) -> None:
    sub = add_parser(commands, "run", _run, "run the ordered model on a source until SIGTERM", _EXAMPLES)
    add_state(sub)
    default = Settings()
    sub.add_argument("--source", metavar="SOURCE", help=f"{GRAMMAR} (default: the configuration's)")
    sub.add_argument("--config", type=Path, metavar="FILE", help="what this device serves, and more (docs/configuration.md)")
    sub.add_argument("--micro-batch", type=int, default=default.micro_batch, metavar="N", help="inputs that go to the model at once")
    sub.add_argument("--probation-inputs", type=int, default=default.probation_inputs, metavar="N", help="answers a new bundle must give")
    sub.add_argument(
        "--recheck", type=float, default=default.recheck_s, metavar="SECONDS", help="between two looks at the installed bundles"
    )
    _add_outbox(sub)
    _add_uplink(sub)
    _add_downloads(sub)


def _add_outbox(sub: argparse.ArgumentParser) -> None:
    group = sub.add_argument_group("outbox", "these go before the [outbox] table of the configuration (docs/records.md)")
    group.add_argument("--outbox-bytes", type=int, metavar="BYTES", help="what may wait for the server (default: 268435456)")
    group.add_argument(
        "--commit-within",
        type=float,
        metavar="SECONDS",
        help="what a power cut may take; spares the flash (default: 0, nothing acknowledged)",
    )


def _add_uplink(sub: argparse.ArgumentParser) -> None:
    group = sub.add_argument_group("uplink", "these go before the [uplink] table of the configuration (docs/records.md)")
    group.add_argument("--heartbeat", type=float, metavar="SECONDS", help="between two status messages (default: 5)")
    group.add_argument("--uplink-rate", type=int, metavar="BYTES_PER_S", help="records go up at most so fast (default: no limit)")
    group.add_argument(
        "--quiet-hours", action="append", metavar="HH:MM-HH:MM", help="only events and status go up then, local time; may be repeated"
    )
    group.add_argument(
        "--reconnect-spread", type=float, metavar="SECONDS", help="a lost connection is taken up again within this time (default: 1)"
    )


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


def _run(options: argparse.Namespace) -> int:
    defer("numpy")  # 15 MB that wait for the first model
    from edge_agent import app  # the parsers must answer at once on a small board

    device = DeviceFile() if options.config is None else device_file.read(options.config)
    settings = Settings(
        micro_batch=options.micro_batch,
        probation_inputs=options.probation_inputs,
        recheck_s=options.recheck,
        manners=_manners(options),
        device=msgspec.structs.replace(device, uplink=_uplink(options, device.uplink), outbox=_outbox(options, device.outbox)),
    )
    app.run(StateFolder(options.state), options.source or device.source, settings, stopped_by_signals())
    return 0


def _outbox(options: argparse.Namespace, settings: OutboxSettings) -> OutboxSettings:
    return _overlaid(settings, "outbox", max_bytes=options.outbox_bytes, commit_within_s=options.commit_within)


def _uplink(options: argparse.Namespace, settings: UplinkSettings) -> UplinkSettings:
    return _overlaid(
        settings,
        "uplink",
        heartbeat_s=options.heartbeat,
        rate_bytes_per_s=options.uplink_rate,
        quiet_hours=options.quiet_hours,
        reconnect_spread_s=options.reconnect_spread,
    )


def _overlaid(settings: _Table, table: str, **given: object) -> _Table:
    """With what was given on the command line. Raises Fatal naming the setting."""
    wanted = {name: value for name, value in given.items() if value is not None}
    try:
        return msgspec.convert({**msgspec.to_builtins(settings), **wanted}, type(settings))
    except msgspec.ValidationError as error:
        raise Fatal(f"{table}: {error}", code="setting") from error


def _manners(options: argparse.Namespace) -> Manners:
    window = parse_window(options.download_window, "download_window") if options.download_window is not None else None
    return Manners(options.transport, options.download_rate, window, options.metered)
