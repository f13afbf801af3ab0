"""Bearer tokens of the API: `eft_<id>_<secret>`. Only the secret's SHA-256 is kept; a secret of 256 random bits needs no slow hash."""

import hashlib
import hmac
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Engine, Row, insert, select, update

from fleet_contract import limits
from fleet_server.domain.roles import Role
from fleet_server.errors import BadRequest, NotFound, Unauthorised
from fleet_server.services import audit
from fleet_server.tables.api_token import ApiToken
from fleet_server.tables.database import reading, writing

SECRET_BYTES = 32
_TOKEN = re.compile(r"eft_([0-9a-f]{12})_([A-Za-z0-9_-]{16,86})")
_NOBODY = "0" * 64


@dataclass(frozen=True)
class Principal:
    """Who is asking: the id of a token and its role."""

    id: str
    role: Role


def create(engine: Engine, role: str, *, by: str, now: datetime, new_secret: Callable[[int], str]) -> str:
    """Make a token and return its text, which is shown this once. Raises BadRequest for an unknown role."""
    if role not in set(Role):
        raise BadRequest(f"role {role!r} is none of {', '.join(Role)}", field="role")
    secret = new_secret(SECRET_BYTES)
    token = digest(secret)[:12]
    with writing(engine) as connection:
        row = {"id": token, "secret_sha256": digest(secret), "role": role, "created_at": now}
        connection.execute(insert(ApiToken).values(row))
        audit.append(connection, by, "token.create", token, {"role": role}, now)
    return f"eft_{token}_{secret}"


def everyone(engine: Engine) -> list[Row]:
    """All tokens in the order in which they were made, revoked ones too. Rows hold digests of secrets: show none."""
    with reading(engine) as connection:
        return list(connection.execute(select(ApiToken).order_by(ApiToken.created_at, ApiToken.id)))


def revoke(engine: Engine, token: str, *, by: str, now: datetime) -> Row:
    """End a token. Raises NotFound; for one that is revoked already nothing changes."""
    wanted = select(ApiToken).where(ApiToken.id == token)
    with writing(engine) as connection:
        ended = update(ApiToken).where(ApiToken.id == token, ApiToken.revoked_at.is_(None)).values(revoked_at=now)
        if connection.execute(ended).rowcount:
            audit.append(connection, by, "token.revoke", token, {}, now)
        row = connection.execute(wanted).one_or_none()
    if row is None:
        raise NotFound(f"there is no token {token!r}", field="token")
    return row


def authenticate(engine: Engine, text: str) -> Principal:
    """Raises Unauthorised; its text never repeats the token."""
    match = _TOKEN.fullmatch(text) if len(text) <= limits.MAX_TOKEN_CHARS else None
    if match is None:
        raise Unauthorised("the bearer token is malformed; it looks like eft_<id>_<secret>", field="authorization")
    with reading(engine) as connection:
        row = connection.execute(select(ApiToken).where(ApiToken.id == match[1])).one_or_none()
    # The comparison is made for unknown ids too: the time taken tells nothing.
    right = hmac.compare_digest(digest(match[2]), row.secret_sha256 if row else _NOBODY)
    if row is None or not right or row.revoked_at is not None:
        raise Unauthorised("the bearer token is unknown or revoked", field="authorization")
    return Principal(row.id, Role(row.role))


def digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
