"""API tokens: who may use this API, and as what."""

from datetime import datetime

from fastapi import APIRouter

from fleet_server.api.deps import Admin, InFleet
from fleet_server.api.schema import Answer, Body, Page, Word
from fleet_server.domain.roles import Role
from fleet_server.services import tokens

router = APIRouter(prefix="/tokens", tags=["tokens"])


class TokenRequest(Body):
    role: Role


class NewToken(Answer):
    """`token` is shown this once; only a digest of it is kept."""

    token: str
    role: Role


class Token(Answer):
    id: str
    role: Role
    created_at: datetime
    revoked_at: datetime | None


@router.get("", summary="List API tokens, without their secrets")
def list_tokens(fleet: InFleet, _who: Admin) -> Page[Token]:
    return Page(items=tokens.everyone(fleet.engine))


@router.post("", status_code=201, summary="Make an API token")
def create_token(body: TokenRequest, fleet: InFleet, who: Admin) -> NewToken:
    text = tokens.create(fleet.engine, body.role, by=who.id, now=fleet.now(), new_secret=fleet.new_secret)
    return NewToken(token=text, role=body.role)


@router.post("/{token}/revoke", summary="End an API token, at once and for good")
def revoke_token(token: Word, fleet: InFleet, who: Admin) -> Token:
    """`token` is its id, the middle part of eft_<id>_<secret>. 404 for an unknown one; revoking twice changes nothing."""
    return tokens.revoke(fleet.engine, token, by=who.id, now=fleet.now())
