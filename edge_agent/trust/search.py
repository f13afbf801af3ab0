"""The search for a target through delegations (specification 5.6.7): depth first, in the order in which each delegator names them."""

from collections.abc import Callable

from tuf.api.metadata import TargetFile, Targets

_MAX_ROLES = 32

Load = Callable[[Targets, tuple[str, ...]], Targets]
"""The role at the end of the path, verified by this delegator."""


def find(path: str, top: Targets, load: Load) -> TargetFile | None:
    """None when no role that may speak for `path` knows it. A role is visited once, so that cycles end; a terminating delegation ends the search."""
    waiting: list[tuple[Targets | None, tuple[str, ...]]] = [(None, ("targets",))]
    visited: set[str] = set()
    while waiting and len(visited) <= _MAX_ROLES:
        delegator, names = waiting.pop()
        if names[-1] in visited:
            continue
        role = top if delegator is None else load(delegator, names)
        if path in role.targets:
            return role.targets[path]
        visited.add(names[-1])
        children, ends = _children(role, path)
        if ends:
            waiting = []
        waiting += [(role, (*names, child)) for child in reversed(children)]
    return None


def _children(role: Targets, path: str) -> tuple[list[str], bool]:
    """The roles to ask about `path`, and whether nobody else is to be asked after them."""
    names = []
    for name, terminating in role.delegations.get_roles_for_target(path) if role.delegations else ():
        names.append(name)
        if terminating:
            return names, True
    return names, False
