"""Enrolment: a token for one device id, used once, becomes a certificate."""

import base64
import hashlib
import hmac
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection, Row, insert, select, update

import firmware_profiles.catalog as profiles
from fleet_contract import limits, names
from fleet_contract.enrolment import EnrolAnswer, EnrolmentToken, EnrolRequest
from fleet_contract.errors import BadName
from fleet_server.errors import BadRequest, Conflict, Gone, Unauthorised
from fleet_server.fleet import Fleet
from fleet_server.services import audit, deletion, quarantine
from fleet_server.services.tokens import SECRET_BYTES, digest
from fleet_server.tables.database import upsert, writing
from fleet_server.tables.device import Device
from fleet_server.tables.enrolment_token import EnrolmentToken as TokenRow

RESERVED = frozenset({"fleet-server", "fleet-broker"})
"""Identities of the server's own certificates: a device with such a name would be the server."""
_NOBODY = "0" * 64


@dataclass(frozen=True)
class Invitation:
    """`token` is shown this once."""

    token: str
    device_id: str
    expires_at: datetime


def create_token(fleet: Fleet, *, device_id: str, profile: str, task: str, lifetime_s: int, by: str, now: datetime) -> Invitation:
    """Raises BadRequest naming the field that is wrong, Conflict while a deleted device of this name has left something."""
    _check(device_id, profile, task, lifetime_s)
    secret = fleet.new_secret(SECRET_BYTES)
    root = hashlib.sha256(fleet.repository.root_v1()).hexdigest()
    token = EnrolmentToken(id=digest(secret)[:12], secret=secret, ca_sha256=fleet.authority.ca_sha256(), root_sha256=root)
    expires_at = now + timedelta(seconds=lifetime_s)
    row = {"id": token.id, "secret_sha256": digest(secret), "device_id": device_id, "profile": profile, "task": task}
    with writing(fleet.engine) as connection:
        deletion.check_gone(connection, device_id)
        connection.execute(insert(TokenRow).values(**row, created_at=now, expires_at=expires_at))
        detail = {"token": token.id, "profile": profile, "task": task, "expires_at": expires_at.isoformat()}
        audit.append(connection, by, "enrolment-token.create", device_id, detail, now)
    return Invitation(token.text(), device_id, expires_at)


def enrol(fleet: Fleet, request: EnrolRequest, now: datetime) -> EnrolAnswer:
    """Turn a token into a certificate. Raises Unauthorised (unknown), Conflict (used), Gone (expired), BadRequest (the CSR).

    Certificates that the device had before are revoked. The token is used and the device stored in one transaction: a refused CSR leaves
    the token unused, and of two racing requests one wins.
    """
    with writing(fleet.engine) as connection:
        token = _use(connection, request, now)
        certificate = fleet.authority.issue(request.csr_pem, token.device_id)
        _store_device(connection, token, now)
        quarantine.replace_certificate(connection, token.device_id, fleet.authority.serial(certificate), now)
        detail = {"token": token.id, "profile": token.profile, "task": token.task}
        audit.append(connection, f"device:{token.device_id}", "device.enrol", token.device_id, detail, now)
    fleet.wake()
    return EnrolAnswer(
        device_id=token.device_id,
        fleet=fleet.name,
        profile=token.profile,
        task=token.task,
        certificate_pem=certificate,
        ca_pem=fleet.authority.ca_pem(),
        root_base64=base64.b64encode(fleet.repository.root_v1()).decode(),
        broker_url=fleet.broker.state().url,
    )


def _check(device_id: str, profile: str, task: str, lifetime_s: int) -> None:
    try:
        names.device_id(device_id)
        names.name(task, "task")
        profiles.load(profile)
    except BadName as error:
        raise BadRequest(str(error), field=error.field, limit=error.limit) from error
    except profiles.ProfileError as error:
        raise BadRequest(str(error), field="profile") from error
    if device_id in RESERVED:
        raise BadRequest(f"device id {device_id!r} is reserved for the server", field="device_id")
    if not 1 <= lifetime_s <= limits.MAX_TOKEN_LIFETIME_S:
        raise BadRequest(
            f"lifetime_s must be 1 to {limits.MAX_TOKEN_LIFETIME_S} seconds", field="lifetime_s", limit=limits.MAX_TOKEN_LIFETIME_S
        )


def _use(connection: Connection, request: EnrolRequest, now: datetime) -> Row:
    row = connection.execute(select(TokenRow).where(TokenRow.id == request.token_id)).one_or_none()
    right = hmac.compare_digest(digest(request.secret), row.secret_sha256 if row else _NOBODY)
    if row is None or not right:
        raise Unauthorised("the enrolment token is unknown", field="token")
    unused = update(TokenRow).where(TokenRow.id == row.id, TokenRow.used_at.is_(None)).values(used_at=now)
    if connection.execute(unused).rowcount != 1:
        raise Conflict("the enrolment token was used before: ask for a new one", field="token", code="token-used")
    if now >= row.expires_at:
        raise Gone(f"the enrolment token expired at {row.expires_at.isoformat()}", field="token", code="token-expired")
    return row


def _store_device(connection: Connection, token: Row, now: datetime) -> None:
    fresh = {"issued_counter": 0, "online": False, "agent_version": "", "phase": "unknown", "order_counter": 0, "inputs": 0, "refused": {}}
    row = {"id": token.device_id, "profile": token.profile, "task": token.task, "enrolled_at": now, **fresh}
    moved = update(Device).where(Device.id == token.device_id, Device.task != token.task)
    connection.execute(moved.values(desired_bundle=None, desired_rollout=None, shadow_rollout=None))
    again = {name: (lambda new, name=name: new[name]) for name in ("profile", "task", "enrolled_at")}
    connection.execute(upsert(connection, Device, ["id"], again), row)
