"""`edge-agent tuf`: the trust code on its own, over plain HTTP, as tuf-conformance drives it. Left out of the overview: nobody runs a fleet with it."""

import argparse
import sys
from datetime import UTC, datetime
from pathlib import Path

from edge_agent.errors import Fatal

_EXAMPLES = """examples:
  edge-agent tuf --metadata-dir md init 1.root.json
  edge-agent tuf --metadata-dir md --metadata-url http://127.0.0.1:8001/metadata refresh
  edge-agent tuf --metadata-dir md --metadata-url http://127.0.0.1:8001/metadata --target-name a.txt \\
      --target-base-url http://127.0.0.1:8001/targets --target-dir files download
"""
_NO_FLOOR = datetime(1970, 1, 1, tzinfo=UTC)


def add(commands) -> None:
    sub = commands.add_parser(
        "tuf",
        description="The agent's trust code on its own, over plain HTTP, as tuf-conformance drives it (its CLIENT-CLI.md).",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    sub.set_defaults(command=_run)
    sub.add_argument("--metadata-dir", type=Path, required=True, metavar="DIR", help="where trusted metadata is kept")
    sub.add_argument("--metadata-url", metavar="URL", help="the repository's metadata, http://host[:port]/folder")
    sub.add_argument("--target-name", action="append", metavar="PATH", help="a target to download; may be repeated")
    sub.add_argument("--target-base-url", metavar="URL", help="the repository's targets, http://host[:port]/folder")
    sub.add_argument("--target-dir", type=Path, metavar="DIR", help="where verified targets are kept")
    sub.add_argument("--built-at", type=_moment, default=_NO_FLOOR, metavar="TIME", help="it is at least so late (default: no floor)")
    actions = sub.add_subparsers(title="actions", dest="action", required=True, metavar="ACTION")
    actions.add_parser("init", help="pin this root.json").add_argument("root", type=Path, metavar="ROOT")
    actions.add_parser("refresh", help="bring the top-level metadata up to date")
    actions.add_parser("download", help="refresh, then bring the targets")


def _run(options: argparse.Namespace) -> int:
    from edge_agent.clock import SystemClock  # the parsers above must answer at once on a small board
    from edge_agent.trust.conformance import Client

    client = Client(options.metadata_dir, SystemClock(), options.built_at)
    if options.action == "init":
        client.init(options.root)
        return 0
    _require(options, "metadata_url")
    trust = client.open(options.metadata_url)
    if options.action == "refresh":
        trust.refresh()
        return 0
    _require(options, "target_name", "target_base_url", "target_dir")
    for path in client.download(trust, options.target_name, options.target_base_url, options.target_dir):
        sys.stdout.write(f"{path}\n")
    return 0


def _require(options: argparse.Namespace, *names: str) -> None:
    missing = [f"--{name.replace('_', '-')}" for name in names if getattr(options, name) is None]
    if missing:
        raise Fatal(f"{options.action} needs {', '.join(missing)}", code="usage")


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
