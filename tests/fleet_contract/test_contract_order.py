"""An order is acted on when a trusted key signed it for this very board, in time, and it is not an old one."""

import base64
from datetime import datetime, timedelta

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from fleet_contract import limits, order
from fleet_contract.errors import (
    BadOrder,
    ContractError,
    OrderExpired,
    OrderForgery,
    OrderMisdirected,
    OrderReplayed,
    TooLarge,
    UnknownVersion,
)
from tests.golden.specimens import AT, KEY, LATER, an_order

TRUSTED = {order.keyid(KEY.public_key()): KEY.public_key()}
STRANGER = Ed25519PrivateKey.from_private_bytes(b"s" * 32)


def envelope_of(payload: object, key: Ed25519PrivateKey = KEY, kind: str = order.PAYLOAD_TYPE, signed_as: str | None = None) -> bytes:
    """A DSSE envelope spelt out, so that the tests do not stand on the code that they test."""
    body = payload if isinstance(payload, bytes) else msgspec.json.encode(payload)
    named = (signed_as or kind).encode()
    signature = key.sign(b"DSSEv1 %d %b %d %b" % (len(named), named, len(body), body))
    signatures = [{"keyid": order.keyid(key.public_key()), "sig": base64.b64encode(signature).decode()}]
    return msgspec.json.encode({"payloadType": kind, "payload": base64.b64encode(body).decode(), "signatures": signatures})


def changed(**fields: object) -> dict:
    return msgspec.to_builtins(an_order()) | fields


def test_a_signed_order_is_opened() -> None:
    assert order.open_by(order.sign(an_order(), KEY), TRUSTED)[1] == an_order()
    assert order.open_by(envelope_of(changed()), TRUSTED)[1] == an_order()


def test_one_trusted_signature_among_others_is_enough() -> None:
    envelope = msgspec.json.decode(envelope_of(changed()))
    others = [{"keyid": "unknown", "sig": "AAAA"}, {"keyid": next(iter(TRUSTED)), "sig": "not base64!"}]
    envelope["signatures"] = others + envelope["signatures"]
    assert order.open_by(msgspec.json.encode(envelope), TRUSTED)[1] == an_order()


@pytest.mark.parametrize(
    ("envelope", "error"),
    [
        pytest.param(b"", BadOrder, id="nothing"),
        pytest.param(b"{}", BadOrder, id="no envelope"),
        pytest.param(b'{"payloadType":"x","payload":"!","signatures":[]}', BadOrder, id="a payload that is not base64"),
        pytest.param(b"[" * 10_000, BadOrder, id="nested without end"),
        pytest.param(b" " * (limits.MAX_ORDER_BYTES + 1), TooLarge, id="too large"),
        pytest.param(envelope_of(changed(), STRANGER), OrderForgery, id="signed by a stranger"),
        pytest.param(envelope_of(changed(), kind="text/plain"), BadOrder, id="another payload type"),
        pytest.param(envelope_of(changed(), signed_as="text/plain"), OrderForgery, id="signed as another payload type"),
        pytest.param(envelope_of(b"no json"), BadOrder, id="a payload that is no JSON"),
        pytest.param(envelope_of(b"[" * 9_000), BadOrder, id="a payload nested without end"),
        pytest.param(envelope_of(changed(version=2)), UnknownVersion, id="a version of the future"),
        pytest.param(envelope_of({"version": 2, "wish": "?"}), UnknownVersion, id="a future order nobody can read yet"),
        pytest.param(envelope_of(changed(colour="red")), BadOrder, id="an unknown field"),
        pytest.param(envelope_of(changed(device="Camera 3")), BadOrder, id="a device id outside the charset"),
        pytest.param(envelope_of(changed(device="")), BadOrder, id="an empty device id"),
        pytest.param(envelope_of(changed(profile="../x")), BadOrder, id="a profile that climbs"),
        pytest.param(envelope_of(changed(target_path="../../etc/passwd")), BadOrder, id="a path that climbs"),
        pytest.param(envelope_of(changed(target_path="/etc/passwd")), BadOrder, id="an absolute path"),
        pytest.param(envelope_of(changed(counter="7")), BadOrder, id="a counter that is text"),
        pytest.param(envelope_of(changed(not_after="2026-11-21T12:30:15")), BadOrder, id="a time without a zone"),
        pytest.param(envelope_of(changed(not_after="2036-11-21T12:30:15Z")), BadOrder, id="a life of ten years"),
    ],
)
def test_what_is_not_opened(envelope: bytes, error: type[ContractError]) -> None:
    with pytest.raises(error):
        order.open_by(envelope, TRUSTED)


def test_no_key_is_trusted_when_none_is_given() -> None:
    with pytest.raises(OrderForgery):
        order.open_by(order.sign(an_order(), KEY), {})


@given(at=st.integers(0, 10_000), bits=st.integers(1, 255))
def test_a_tampered_envelope_is_the_same_order_or_none(at: int, bits: int) -> None:
    envelope = bytearray(order.sign(an_order(), KEY))
    envelope[at % len(envelope)] ^= bits
    try:
        opened = order.open_by(bytes(envelope), TRUSTED)[1]
    except ContractError:
        return
    assert opened == an_order()


MINE = {"device": "camera-3", "profile": "generic-arm64", "now": AT, "newest_counter": 7}


@pytest.mark.parametrize(
    "facts",
    [
        pytest.param({}, id="just issued"),
        pytest.param({"newest_counter": 0}, id="newer than any"),
        pytest.param({"now": LATER}, id="in its last moment"),
        pytest.param({"now": AT - timedelta(seconds=limits.MAX_CLOCK_SKEW_S)}, id="from a clock slightly ahead"),
    ],
)
def test_an_order_that_is_acted_on(facts: dict) -> None:
    assert order.check(an_order(), **MINE | facts) == an_order()


@pytest.mark.parametrize(
    ("facts", "error", "field"),
    [
        pytest.param({"device": "camera-4"}, OrderMisdirected, "device", id="for another device"),
        pytest.param({"profile": "generic-x86-64"}, OrderMisdirected, "profile", id="for another hardware profile"),
        pytest.param({"newest_counter": 8}, OrderReplayed, "counter", id="with an old counter"),
        pytest.param({"now": LATER + timedelta(microseconds=1)}, OrderExpired, "not_after", id="expired"),
        pytest.param({"now": AT - timedelta(seconds=limits.MAX_CLOCK_SKEW_S + 1)}, OrderExpired, "issued_at", id="from the future"),
    ],
)
def test_an_order_that_is_refused(facts: dict, error: type[ContractError], field: str) -> None:
    with pytest.raises(error) as caught:
        order.check(an_order(), **MINE | facts)
    assert caught.value.field == field


def test_codes_of_refusals_are_distinct() -> None:
    kinds = [BadOrder, OrderForgery, OrderMisdirected, OrderExpired, OrderReplayed]
    assert len({kind.code for kind in kinds}) == len(kinds)


def test_times_keep_their_microseconds() -> None:
    assert isinstance(an_order().issued_at, datetime)
    assert order.open_by(order.sign(an_order(), KEY), TRUSTED)[1].issued_at == AT
