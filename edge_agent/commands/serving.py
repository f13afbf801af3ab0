"""`edge-agent serve`: models for local applications, without a fleet."""

import argparse
from pathlib import Path

from edge_agent.commands.options import add_parser, say, stopped_by_signals

_EXAMPLES = """examples:
  edge-agent serve --bundle digits-1.0.0.bundle
  edge-agent serve --bundle digits-1.0.0.bundle --http 127.0.0.1:8080 --grpc 127.0.0.1:8081
  edge-agent serve --bundle digits-1.0.0.bundle@5f70bf18a0860070... --http unix:/run/edge-agent/http.sock
  edge-agent serve --config agent.toml
  curl http://127.0.0.1:8080/v2/models/digits
"""


def add(commands) -> None:
    sub = add_parser(commands, "serve", _serve, "serve models to local applications until SIGTERM, without a fleet", _EXAMPLES)
    sub.add_argument("--bundle", action="append", default=[], metavar="FILE[@SHA256]", help="a model, named by its task; may be repeated")
    sub.add_argument("--config", type=Path, metavar="FILE", help="more models, ensembles, shadows, addresses (docs/configuration.md)")
    sub.add_argument("--http", action="append", default=[], metavar="ADDRESS", help="HOST:PORT or unix:PATH (default: 127.0.0.1:8080)")
    sub.add_argument("--grpc", action="append", default=[], metavar="ADDRESS", help="HOST:PORT or unix:PATH (default: none)")
    sub.add_argument("--token-file", type=Path, metavar="FILE", help="SHA-256 digests of tokens; needed beyond this board")
    sub.add_argument("--profile", metavar="NAME", help="hardware profile (default: what `edge-agent profile detect` proposes)")


def _serve(options: argparse.Namespace) -> int:
    from edge_agent import standalone  # the parsers must answer at once on a small board

    wish = standalone.Wish(options.bundle, options.config, options.http, options.grpc, options.token_file, options.profile)
    standalone.serve(wish, stopped_by_signals(), on_ready=lambda texts: say("\n".join(texts)))
    return 0
