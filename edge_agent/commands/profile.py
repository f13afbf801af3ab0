"""The hardware profiles: what there is, what one says, and which fits this board."""

import argparse
import json
import platform
from pathlib import Path

import msgspec

from edge_agent.commands.options import add_json, add_parser, say
from edge_agent.errors import Fatal

_EXAMPLES = """examples:
  edge-agent profile list
  edge-agent profile show raspberry-pi-5 --json
  edge-agent profile detect
  edge-agent profile detect --root /mnt/card --architecture aarch64
"""


def add(commands) -> None:
    group = add_parser(commands, "profile", _list, "the hardware profiles, and which fits this board", _EXAMPLES)
    actions = group.add_subparsers(title="actions", required=True, metavar="ACTION")
    add_json(add_parser(actions, "list", _list, "every profile of the catalogue"))
    show = add_parser(actions, "show", _show, "what one profile says")
    show.add_argument("name", metavar="NAME", help="as in the list")
    add_json(show)
    _add_detect(actions)


def _add_detect(actions) -> None:
    detect = add_parser(actions, "detect", _detect, "propose the profile of the board this runs on, and say why", _EXAMPLES)
    detect.add_argument("--root", type=Path, default=Path("/"), metavar="DIR", help="a folder that looks like / (default: /)")
    detect.add_argument(
        "--architecture", choices=["x86_64", "aarch64", "armv7l"], help="of the Python that will run there (default: this one's)"
    )
    add_json(detect)


def _list(options: argparse.Namespace) -> int:
    from firmware_profiles import catalog

    profiles = catalog.load_all()
    if options.json:
        say(json.dumps({"profiles": [{"name": one.name, "title": one.title, "architecture": one.architecture} for one in profiles]}))
    else:
        width = max(len(one.name) for one in profiles)
        say("\n".join(f"{one.name:{width}}  {one.architecture:7}  {one.title}" for one in profiles))
    return 0


def _show(options: argparse.Namespace) -> int:
    from firmware_profiles import catalog, page

    try:
        profile = catalog.load(options.name)
    except catalog.ProfileError as error:
        raise Fatal(str(error), code="profile") from error
    say(json.dumps(msgspec.to_builtins(profile)) if options.json else "\n".join(page.section(profile)).rstrip())
    return 0


def _detect(options: argparse.Namespace) -> int:
    from edge_agent.board import architecture_here
    from firmware_profiles import catalog, detection

    if not options.root.is_dir():
        raise Fatal(f"there is no folder {options.root}", code="root")
    architecture = options.architecture or architecture_here()
    if architecture is None:
        raise Fatal(f"no hardware profile is for {platform.machine()}: name one with --architecture", code="architecture")
    found = detection.detect(options.root, architecture, catalog.load_all())
    say(json.dumps(_told(found)) if options.json else _text(found))
    return 0


def _told(found) -> dict:
    return {
        "profile": found.profile.name,
        "title": found.profile.title,
        "reasons": list(found.reasons),
        "warnings": list(found.warnings),
        "backends": [{"backend": one.backend.id, "usable": one.usable, "why_not": _why_not(one)} for one in found.backends],
    }


def _text(found) -> str:
    lines = [f"{found.profile.name}: {found.profile.title}"]
    lines += [f"  because {reason}" for reason in found.reasons]
    lines += [f"  but {warning}" for warning in found.warnings]
    lines += [f"  backend {one.backend.id}: {_why_not(one) or 'is tried'}" for one in found.backends]
    return "\n".join(lines)


def _why_not(one) -> str:
    if not one.backend.supported:
        return one.backend.reason
    return f"there is no {', '.join(one.absent)}" if one.absent else ""
