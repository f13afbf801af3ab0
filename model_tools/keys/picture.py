"""Who signs what, for people: the tree of roles, and what a draft changes."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from fleet_contract.release import RELEASES
from model_tools.keys.chain import ROOT, TARGETS, Chain
from model_tools.keys.metadata import BY_ROOT, BY_TARGETS, holders_of
from model_tools.keys.store import named

_ID_CHARS = 12


@dataclass(frozen=True)
class RoleView:
    """`version` and `expires` are None for roles whose metadata the server signs, or that have none. `signed` is as "2 of 2 by root 1"."""

    role: str
    threshold: int
    keys: dict[str, str]
    version: int | None = None
    expires: datetime | None = None
    signed: tuple[str, ...] = ()
    targets: int | None = None


def views(chain: Chain) -> list[RoleView]:
    return [_view(chain, role) for role in (*BY_ROOT, *BY_TARGETS)]


def tree(chain: Chain, now: datetime) -> str:
    """Root and what hangs from it, a line a role and a line a key."""
    found = {view.role: view for view in views(chain)}
    lines = [_headline(found[ROOT], now), *_branch([found[role] for role in BY_ROOT], now, {TARGETS: [found[role] for role in BY_TARGETS]})]
    return "\n".join(lines)


def changes(before: Chain | None, after: Chain) -> list[str]:
    """What `after` changes, in words; what a signature on it approves."""
    if before is None:
        return [f"{view.role}: {view.threshold} of {_names(view.keys)}" for view in views(after)]
    told = []
    for old, new in zip(views(before), views(after), strict=True):
        told += [f"{new.role}: key {name} ({keyid[:_ID_CHARS]}) is added" for keyid, name in new.keys.items() if keyid not in old.keys]
        told += [f"{new.role}: key {name} ({keyid[:_ID_CHARS]}) is REVOKED" for keyid, name in old.keys.items() if keyid not in new.keys]
        if old.threshold != new.threshold:
            told.append(f"{new.role}: threshold {old.threshold} becomes {new.threshold}")
        if old.version != new.version and new.expires:
            told.append(f"{new.role} {new.version}: expires {new.expires:%Y-%m-%d}")
    return told + list(_released(before, after))


def _released(before: Chain, after: Chain) -> Iterator[str]:
    old, new = before.releases.signed.targets, after.releases.signed.targets
    yield from (f"releases: {path} is taken back" for path in sorted(old.keys() - new.keys()))
    yield from (f"releases: {path} is released" for path in sorted(new.keys() - old.keys()))
    yield from (f"releases: {path} is CHANGED" for path in sorted(old.keys() & new.keys()) if old[path] != new[path])


def _view(chain: Chain, role: str) -> RoleView:
    holders = holders_of(chain, role)
    keys = {key.keyid: named(key) for key in holders.keys}
    if role not in (ROOT, TARGETS, RELEASES):
        return RoleView(role, holders.threshold, keys)
    signed = chain.newest(role).signed
    told = tuple(f"{len(need.signed)} of {need.threshold} by {need.by}" for need in chain.needs(role))
    targets = len(signed.targets) if role == RELEASES else None
    return RoleView(role, holders.threshold, keys, signed.version, signed.expires, told, targets)


def _branch(children: list[RoleView], now: datetime, below: dict[str, list[RoleView]]) -> Iterator[str]:
    for number, view in enumerate(children):
        last = number == len(children) - 1
        yield f"{'└─ ' if last else '├─ '}{_roleline(view, now)}"
        inner = [f"   {name} {keyid[:_ID_CHARS]}" for keyid, name in view.keys.items()] + list(_branch(below.get(view.role, []), now, {}))
        yield from (f"{'   ' if last else '│  '}{line}" for line in inner)


def _roleline(view: RoleView, now: datetime) -> str:
    count = f"{view.threshold} of {len(view.keys)}"
    return f"{view.role:<10} {count}" if view.role == ROOT or view.version is None else f"{view.role:<10} {count}   {_headline(view, now)}"


def _headline(view: RoleView, now: datetime) -> str:
    if view.expires is None:
        return view.role
    days = (view.expires - now).days
    left = f"in {days} days" if days >= 0 else f"EXPIRED {-days} days ago"
    count = "" if view.targets is None else f", {view.targets} targets"
    return f"{view.role} {view.version}: expires {view.expires:%Y-%m-%d} ({left}), signed {', '.join(view.signed)}{count}"


def _names(keys: dict[str, str]) -> str:
    return ", ".join(f"{name} ({keyid[:_ID_CHARS]})" for keyid, name in keys.items())
