"""What routes ask for: the fleet, who is calling, and which page."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Query, Request
from fastapi.dependencies.models import Dependant
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from fleet_contract import limits
from fleet_server.domain.roles import Role, allows
from fleet_server.errors import BadRequest, Forbidden, Unauthorised
from fleet_server.fleet import Fleet
from fleet_server.services import tokens
from fleet_server.services.tokens import Principal

_bearer = HTTPBearer(auto_error=False, description="An API token: eft_<id>_<secret>")
DEFAULT_PAGE_ROWS = 100


def the_fleet(request: Request) -> Fleet:
    return request.app.state.fleet


InFleet = Annotated[Fleet, Depends(the_fleet)]


def caller(fleet: InFleet, given: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]) -> Principal:
    """Raises Unauthorised."""
    if given is None:
        raise Unauthorised("this needs an API token: Authorization: Bearer eft_...", field="authorization")
    return tokens.authenticate(fleet.engine, given.credentials)


class _Needs:
    """A dependency that lets a role and those above it pass. Raises Unauthorised or Forbidden."""

    def __init__(self, role: Role) -> None:
        self._role = role

    def __call__(self, who: Annotated[Principal, Depends(caller)]) -> Principal:
        if not allows(who.role, self._role):
            raise Forbidden(f"this needs the role {self._role.value}, the token has {who.role.value}", field="role", limit=self._role.value)
        return who


Viewer = Annotated[Principal, Depends(_Needs(Role.VIEWER))]
Operator = Annotated[Principal, Depends(_Needs(Role.OPERATOR))]
Admin = Annotated[Principal, Depends(_Needs(Role.ADMIN))]


def known_query(request: Request) -> None:
    """A misspelt filter would answer another, larger question. Raises BadRequest for a parameter that the route does not have, or one given twice."""
    known = _query_names(request.scope["route"].dependant)
    asked = [name for name, _ in request.query_params.multi_items()]
    for name in asked:
        if name not in known:
            raise BadRequest(f"unknown parameter {name!r}; known: {', '.join(sorted(known))}", field=name)
        if asked.count(name) > 1:
            raise BadRequest(f"{name} is given more than once", field=name)


def _query_names(dependant: Dependant) -> set[str]:
    return {field.alias for field in dependant.query_params}.union(*map(_query_names, dependant.dependencies))


@dataclass(frozen=True)
class Paging:
    """Rows after the number `after`, at most `limit`."""

    after: int
    limit: int


def paging(
    after: Annotated[str, Query(description="the `next` of the page before", max_length=20)] = "0",
    limit: Annotated[int, Query(ge=1, le=limits.MAX_PAGE_ROWS)] = DEFAULT_PAGE_ROWS,
) -> Paging:
    """Raises BadRequest for a cursor that no page gave."""
    if not (after.isascii() and after.isdigit() and int(after) < 2**63):
        raise BadRequest(f"cursor {after!r} was not given by this server", field="after")
    return Paging(int(after), limit)


Paged = Annotated[Paging, Depends(paging)]


def following(rows: list, limit: int, key: str = "id") -> str | None:
    """The cursor of the next page; None when this one was not full."""
    return str(getattr(rows[-1], key)) if rows and len(rows) == limit else None
