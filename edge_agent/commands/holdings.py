"""`edge-agent status | verify | rollback | quarantine`: what the state folder holds, looked at beside a running agent or without one."""

import argparse
import json

from edge_agent.commands.options import FAILED, add_json, add_parser, add_state, existing, say


def add(commands) -> None:
    for name, command, summary in (
        ("status", _status, "what this device runs and what waits to be sent"),
        ("verify", _verify, "check the identity, the active bundle's digest and the signed metadata"),
        ("rollback", _rollback, "go back to the previous bundle, without the server"),
        ("quarantine", _quarantine, "the bundles that were bad on this device and are not tried again"),
    ):
        examples = f"examples:\n  edge-agent {name} --state /var/lib/edge-agent --json\n"
        sub = add_parser(commands, name, command, summary, examples)
        add_state(sub)
        add_json(sub)
        if name == "quarantine":
            sub.add_argument("--clear", action="store_true", help="forget them: what is ordered is tried again")


def _status(options: argparse.Namespace) -> int:
    from edge_agent import inspection  # the parsers must answer at once on a small board

    found = inspection.status(existing(options.state))
    say(json.dumps(found) if options.json else inspection.status_text(found))
    return 0


def _verify(options: argparse.Namespace) -> int:
    from edge_agent import inspection
    from edge_agent.clock import BUILT_AT, SystemClock
    from edge_agent.trust.time import TrustedTime

    state = existing(options.state)
    findings = inspection.verify(state, TrustedTime(state.time, SystemClock(), BUILT_AT).now())
    sound = all(finding.ok for finding in findings)
    if options.json:
        say(json.dumps({"ok": sound, "checks": {f.what: {"ok": f.ok, "text": f.text} for f in findings}}))
    else:
        say("\n".join(f"{'ok    ' if f.ok else 'FAILED'}  {f.what}: {f.text}" for f in findings))
    return 0 if sound else FAILED


def _rollback(options: argparse.Namespace) -> int:
    from edge_agent import inspection

    asked = inspection.ask_rollback(existing(options.state))
    say(json.dumps(asked) if options.json else inspection.rollback_text(asked))
    return 0


def _quarantine(options: argparse.Namespace) -> int:
    from edge_agent import inspection

    state = existing(options.state)
    digests = inspection.quarantined(state)
    told = inspection.ask_pardon(state) if options.clear else "\n".join(digests) or "none"
    say(json.dumps({"quarantined": digests, "clearing": options.clear}) if options.json else told)
    return 0
