"""What a person asks about a state folder, beside a running agent or without one."""

import fcntl
import sqlite3
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec

from edge_agent import identity
from edge_agent.config import StateFolder
from edge_agent.errors import AgentError, Fatal
from edge_agent.outbox import database
from edge_agent.storage.journal import Journal
from edge_agent.trust.client import expiries
from edge_agent.update.requests import PARDON, ROLLBACK, Requests
from edge_agent.update.slots import Slots
from edge_agent.update.state import State


@dataclass(frozen=True)
class Finding:
    what: str
    ok: bool
    text: str


def status(state: StateFolder) -> dict[str, Any]:
    """Raises Fatal when the folder holds no identity, Reject when the journal is damaged."""
    me = _identity(state)
    journal = Journal(state.journal, State).read() or State()
    epoch, lanes = _ledger(state)
    running = _running(state)
    link = _report(state) if running else None
    return {
        "device": me.device.device_id,
        "fleet": me.device.fleet,
        "profile": me.device.profile,
        "task": me.device.task,
        "running": running is not None,
        "pid": running,
        "link": link,
        "phase": journal.phase.value,
        "active": msgspec.to_builtins(journal.active),
        "previous": msgspec.to_builtins(journal.previous),
        "order_counter": journal.counter,
        "error": (link or {}).get("error") or journal.error,
        "epoch": epoch,
        "ledger": lanes,
    }


def status_text(found: dict[str, Any]) -> str:
    active = found["active"]
    link = found["link"] or {}
    lines = [
        f"device   {found['device']} of fleet {found['fleet']} ({found['profile']}, task {found['task']})",
        f"agent    {'process ' + str(found['pid']) if found['running'] else 'not running'}",
        f"broker   {link.get('broker', '-')} {'connected' if link.get('connected') else 'not connected'}",
        f"bundle   {active['version'] + ' ' + active['sha256'][:12] if active else 'none'}, phase {found['phase']}, order {found['order_counter']}",
        f"error    {found['error'] or 'none'}",
    ]
    if download := link.get("download"):
        lines.append(f"download {download['path']} by {download['way']}: {download['percent']} % of {download['length_bytes']} bytes")
    if serving := link.get("serving"):
        lines.append(f"serving  {', '.join(serving)}")
    for lane, numbers in found["ledger"].items():
        dropped = ", ".join(f"{count} {reason}" for reason, count in numbers["dropped"].items()) or "0"
        lines.append(
            f"{lane:<9} {numbers['produced']} produced, {numbers['acknowledged']} stored, {numbers['queued']} waiting, {dropped} dropped"
        )
    return "\n".join(lines)


def verify(state: StateFolder, now: datetime) -> list[Finding]:
    """Each thing checked, whether it holds, and why. Raises Fatal when the folder holds no identity."""
    me = _identity(state)
    checks = (
        ("identity", lambda: f"certificate valid until {identity.verify(me, now).isoformat()}"),
        ("bundle", lambda: _check_bundle(state)),
        ("metadata", lambda: _check_metadata(state, now)),
    )
    findings = []
    for what, check in checks:
        try:
            findings.append(Finding(what, True, check()))
        except AgentError as error:
            findings.append(Finding(what, False, str(error)))
    return findings


def ask_rollback(state: StateFolder) -> dict[str, Any]:
    """Leave the wish for the agent; the bundle that it goes back to, and the process that does so. Raises Fatal when there is none."""
    journal = Journal(state.journal, State).read() or State()
    if journal.previous is None:
        raise Fatal("there is no previous bundle to roll back to", code="no-previous")
    Requests(state.root).ask(ROLLBACK)
    return {"version": journal.previous.version, "sha256": journal.previous.sha256, "pid": _running(state)}


def rollback_text(asked: dict[str, Any]) -> str:
    return f"roll back to {asked['version']} ({asked['sha256'][:12]}): {_when(asked['pid'])}"


def quarantined(state: StateFolder) -> tuple[str, ...]:
    """Digests of the bundles that have shown themselves bad on this device."""
    return (Journal(state.journal, State).read() or State()).quarantined


def ask_pardon(state: StateFolder) -> str:
    """Leave the wish for the agent; what will happen."""
    Requests(state.root).ask(PARDON)
    return f"forget {len(quarantined(state))} of them, to be tried again where ordered: {_when(_running(state))}"


def _identity(state: StateFolder) -> identity.Identity:
    me = identity.load(state.identity)
    if me is None:
        raise Fatal(f"{state.root} holds no identity; run `edge-agent enrol` first", code="not-enrolled")
    return me


def _when(running: int | None) -> str:
    return f"process {running} does so now" if running else "the agent will when it starts"


def _running(state: StateFolder) -> int | None:
    """The process that holds the lock, found without holding it up."""
    try:
        with (state.root / "lock").open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return state.owner()
    except OSError:
        return None
    return None


def _ledger(state: StateFolder) -> tuple[str | None, dict[str, Any]]:
    if not state.outbox.exists():
        return None, {}
    try:
        epoch, ledger = database.read_ledger(state.outbox)
    except sqlite3.Error as error:
        raise Fatal(f"{state.outbox}: {error}", code="outbox") from error
    return epoch, {lane.value: msgspec.to_builtins(kept) for lane, kept in ledger.items()}


def _report(state: StateFolder) -> dict[str, Any] | None:
    try:
        return msgspec.json.decode(state.status.read_bytes())
    except (OSError, msgspec.DecodeError):
        return None


def _check_bundle(state: StateFolder) -> str:
    journal = Journal(state.journal, State).read() or State()
    if journal.active is None:
        return "none installed yet"
    bundle = Slots(state.slots).open(journal.active)
    return f"{bundle.manifest.task} {bundle.manifest.version}, sha256 {bundle.sha256}"


def _check_metadata(state: StateFolder, now: datetime) -> str:
    ends = expiries(state.tuf)
    role, first = min(ends.items(), key=lambda item: item[1])
    if first <= now:
        raise AgentError(f"{role} expired at {first.isoformat()}")
    return f"valid until {first.isoformat()} ({role})"
