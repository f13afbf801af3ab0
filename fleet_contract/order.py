"""The signed deployment order: desired state of one device, in a DSSE envelope (secure-systems-lab/dsse v1.0), Ed25519."""

import base64
import hashlib
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Literal

import msgspec

from fleet_contract import limits, names
from fleet_contract.errors import (
    BadOrder,
    OrderExpired,
    OrderForgery,
    OrderMisdirected,
    OrderReplayed,
    TooLarge,
    UnknownVersion,
)

if TYPE_CHECKING:  # whoever gives or makes a key has paid for the library
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

PAYLOAD_TYPE = "application/vnd.edgefleet.order+json"
VERSION = 1


class SamplingCampaign(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Ask of a device: choose at most `max_items` informative inputs of at most `max_bytes` in all and send them, once per `id`."""

    id: str
    max_items: int
    max_bytes: int


class Order(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What one device shall run. `target_path`, `sha256` and `length` name a TUF target; `counter` grows with each order of the device."""

    version: int = VERSION
    device: str
    profile: str
    counter: int
    issued_at: datetime
    not_after: datetime
    target_path: str
    sha256: str
    length: int
    rollout: str | None = None
    sampling: SamplingCampaign | None = None
    transport: Literal["mqtt", "http"] | msgspec.UnsetType = msgspec.UNSET
    """How the bundle is better fetched; the device's own setting goes before it."""
    shadow: bool | msgspec.UnsetType = msgspec.UNSET
    """Run this bundle beside the one that serves, on the same inputs, and never let it answer."""


class _VersionOnly(msgspec.Struct, frozen=True):
    version: int


class _Signature(msgspec.Struct, frozen=True):
    keyid: str
    sig: str


class _Envelope(msgspec.Struct, frozen=True, rename={"payload_type": "payloadType"}):
    payload_type: str
    payload: str
    signatures: list[_Signature]


def keyid(key: "Ed25519PublicKey") -> str:
    return hashlib.sha256(key.public_bytes_raw()).hexdigest()


def sign(order: Order, key: "Ed25519PrivateKey") -> bytes:
    """The envelope's bytes, as they are retained on the device's order topic."""
    payload = msgspec.json.encode(order)
    signature = _Signature(keyid=keyid(key.public_key()), sig=base64.b64encode(key.sign(_pae(payload))).decode())
    return msgspec.json.encode(_Envelope(payload_type=PAYLOAD_TYPE, payload=base64.b64encode(payload).decode(), signatures=[signature]))


def open_by(envelope: bytes, keys: "Mapping[str, Ed25519PublicKey]") -> tuple[str, Order]:
    """The id of the one of `keys` that has signed it, and the order inside. The payload is not parsed before its signature holds.
    Raises OrderForgery, UnknownVersion, TooLarge or BadOrder."""
    if len(envelope) > limits.MAX_ORDER_BYTES:
        raise TooLarge(f"order of {len(envelope)} bytes, at most {limits.MAX_ORDER_BYTES}", field="order", limit=limits.MAX_ORDER_BYTES)
    try:
        opened = msgspec.json.decode(envelope, type=_Envelope)
        payload = base64.b64decode(opened.payload, validate=True)
    except (ValueError, RecursionError) as error:
        raise BadOrder(f"the order is not a DSSE envelope: {error}", field="order") from error
    if opened.payload_type != PAYLOAD_TYPE:
        raise BadOrder(f"payload type {opened.payload_type!r} is not {PAYLOAD_TYPE!r}", field="payloadType")
    signer = next((signature.keyid for signature in opened.signatures[:16] if _holds(signature, payload, keys)), None)
    if signer is None:
        raise OrderForgery("no trusted orders key has signed this order", field="signatures")
    return signer, _parse(payload)


def check(order: Order, *, device: str, profile: str, now: datetime, newest_counter: int) -> Order:
    """Return `order` if this device may act on it now. Raises OrderMisdirected, OrderExpired or OrderReplayed.

    `newest_counter` is the highest counter that the device has accepted; the same counter is accepted again (a retained order is redelivered).
    """
    if order.device != device:
        raise OrderMisdirected(f"the order is for device {order.device!r}, this is {device!r}", field="device")
    if order.profile != profile:
        raise OrderMisdirected(f"the order is for hardware profile {order.profile!r}, this is {profile!r}", field="profile")
    if order.counter < newest_counter:
        raise OrderReplayed(f"order counter {order.counter} is older than {newest_counter}", field="counter", limit=newest_counter)
    if now > order.not_after:
        raise OrderExpired(f"the order expired at {order.not_after.isoformat()}", field="not_after")
    if order.issued_at > now + timedelta(seconds=limits.MAX_CLOCK_SKEW_S):
        raise OrderExpired(f"the order is from the future: {order.issued_at.isoformat()}", field="issued_at", limit=limits.MAX_CLOCK_SKEW_S)
    return order


def _parse(payload: bytes) -> Order:
    try:
        version = msgspec.json.decode(payload, type=_VersionOnly).version
        if version != VERSION:
            raise UnknownVersion(f"order version {version} is not {VERSION}: upgrade the agent", field="version", limit=VERSION)
        order = msgspec.json.decode(payload, type=Order)
        names.device_id(order.device)
        names.name(order.profile, "profile")
        names.path(order.target_path, "target_path")
    except UnknownVersion:
        raise
    except (ValueError, RecursionError) as error:
        raise BadOrder(f"the order's payload is malformed: {error}", field="payload") from error
    if not 0 <= order.counter <= limits.MAX_COUNT:
        raise BadOrder(f"order counter {order.counter} is out of range", field="counter", limit=limits.MAX_COUNT)
    if order.issued_at.tzinfo is None or order.not_after.tzinfo is None:
        raise BadOrder("order times must carry a time zone", field="not_after")
    if order.not_after - order.issued_at > timedelta(seconds=limits.MAX_ORDER_LIFETIME_S):
        raise BadOrder("the order lives too long", field="not_after", limit=limits.MAX_ORDER_LIFETIME_S)
    return order


def _holds(signature: _Signature, payload: bytes, keys: "Mapping[str, Ed25519PublicKey]") -> bool:
    from cryptography.exceptions import InvalidSignature

    key = keys.get(signature.keyid)
    if key is None:
        return False
    try:
        key.verify(base64.b64decode(signature.sig, validate=True), _pae(payload))
    except (InvalidSignature, ValueError):
        return False
    return True


def _pae(payload: bytes) -> bytes:
    """DSSE pre-authentication encoding."""
    kind = PAYLOAD_TYPE.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)
