"""Enrolment ends in a whole identity or in none, and trusts nothing that the token does not vouch for."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from edge_agent import identity
from edge_agent.clock import BUILT_AT
from edge_agent.enrol import enrol, parse_server
from edge_agent.errors import Fatal, Reject, Retry
from tests.fakes.agent_enrol_server import DEVICE, ROOT, Authority, EnrolServer, serve_enrolment


@pytest.fixture
def server(tmp_path: Path) -> Iterator[EnrolServer]:
    with serve_enrolment(tmp_path) as serving:
        yield serving


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "state" / "identity"


def join(server: EnrolServer, folder: Path, device: str = DEVICE, **token: str) -> identity.Device:
    return enrol(parse_server(server.url), server.token(**token), device, folder, lambda: BUILT_AT)


class TestTheWayThrough:
    def test_the_device_gets_its_identity(self, server: EnrolServer, folder: Path) -> None:
        device = join(server, folder)
        assert (device.device_id, device.fleet, device.profile, device.task) == (DEVICE, "demo", "generic-x86-64", "toy")
        loaded = identity.load(folder)
        assert loaded is not None
        assert (loaded.device, loaded.root) == (device, ROOT)
        assert identity.verify(loaded, datetime.now(UTC)) > datetime.now(UTC)

    def test_key_and_folder_are_private(self, server: EnrolServer, folder: Path) -> None:
        join(server, folder)
        assert folder.stat().st_mode & 0o777 == 0o700
        assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}

    def test_the_key_is_made_here_and_never_sent(self, server: EnrolServer, folder: Path) -> None:
        join(server, folder)
        key = serialization.load_pem_private_key((folder / identity.KEY).read_bytes(), None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        assert x509.load_pem_x509_csr(server.requests[0].csr_pem.encode()).public_key() == key.public_key()

    def test_again_for_the_same_device_keeps_it_and_uses_no_token(self, server: EnrolServer, folder: Path) -> None:
        first = join(server, folder)
        assert join(server, folder) == first
        assert len(server.requests) == 1

    def test_a_folder_left_by_a_power_cut_is_no_hindrance(self, server: EnrolServer, folder: Path) -> None:
        half = folder.with_name(".identity.new")
        half.mkdir(parents=True)
        (half / identity.KEY).write_bytes(b"half a key")
        join(server, folder)
        assert not half.exists()


def _error(code: str, message: str) -> bytes:
    return json.dumps({"error": {"code": code, "message": message, "field": None, "limit": None}}).encode()


class TestRefusals:
    @pytest.mark.parametrize(
        ("status", "body", "kind", "code", "text"),
        [
            pytest.param(409, _error("token-used", "used before"), Reject, "token-used", "used before", id="a used token"),
            pytest.param(410, _error("token-expired", "expired"), Reject, "token-expired", "expired", id="an expired token"),
            pytest.param(404, b"<html>", Reject, "error", "HTTP status 404", id="not a fleet server"),
            pytest.param(503, _error("busy", "later"), Retry, "busy", "later", id="a server that is busy"),
            pytest.param(200, b"{}", Reject, "bad-answer", "malformed", id="half an answer"),
            pytest.param(200, b"x" * 2_000_000, Reject, "too-large", "1048576", id="an endless answer"),
        ],
    )
    def test_the_server_says_no(
        self, server: EnrolServer, folder: Path, status: int, body: bytes, kind: type[Exception], code: str, text: str
    ) -> None:
        server.refuse = (status, body)
        with pytest.raises(kind, match=text) as caught:
            join(server, folder)
        assert caught.value.code == code
        assert not folder.exists()

    @pytest.mark.parametrize(
        ("change", "code"),
        [
            pytest.param({"device_id": "dev-2"}, "bad-answer", id="another device's identity"),
            pytest.param({"profile": "unknown-board"}, "bad-answer", id="an unknown profile"),
            pytest.param({"broker_url": "mqtt://localhost"}, "bad-answer", id="a broker without TLS"),
            pytest.param({"root_base64": "e30="}, "wrong-root", id="another TUF root"),
            pytest.param({"root_base64": "%"}, "bad-answer", id="no base64"),
            pytest.param({"certificate_pem": "none"}, "bad-certificate", id="no certificate"),
        ],
    )
    def test_an_answer_that_does_not_hold(self, server: EnrolServer, folder: Path, change: dict[str, str], code: str) -> None:
        server.change = change
        with pytest.raises(Reject) as caught:
            join(server, folder)
        assert caught.value.code == code
        assert not folder.exists()

    def test_a_certificate_of_another_ca(self, server: EnrolServer, folder: Path) -> None:
        key = ec.generate_private_key(ec.SECP256R1()).public_key()
        server.change = {"certificate_pem": Authority().issue(DEVICE, key).decode()}
        with pytest.raises(Reject, match="CA"):
            join(server, folder)

    def test_a_certificate_for_another_key(self, server: EnrolServer, folder: Path) -> None:
        key = ec.generate_private_key(ec.SECP256R1()).public_key()
        server.change = {"certificate_pem": server.authority.issue(DEVICE, key).decode()}
        with pytest.raises(Reject, match="another key"):
            join(server, folder)

    def test_a_server_that_the_token_does_not_know(self, server: EnrolServer, folder: Path) -> None:
        with pytest.raises(Reject) as caught:
            join(server, folder, ca_sha256="0" * 64)
        assert caught.value.code == "wrong-ca"
        assert server.requests == []

    def test_somebody_in_between_who_shows_the_right_ca(self, server: EnrolServer, folder: Path) -> None:
        """The certificate of the connection is not from it, so the secret is never sent."""
        right = Authority()
        server.ca_pem = right.pem
        with pytest.raises(Reject) as caught:
            join(server, folder, ca_sha256=right.sha256)
        assert caught.value.code == "wrong-ca"
        assert server.requests == []

    def test_nobody_there(self, folder: Path) -> None:
        with pytest.raises(Retry):
            enrol(parse_server("https://127.0.0.1:1"), EnrolServer("", Authority()).token(), DEVICE, folder, lambda: BUILT_AT)

    def test_a_folder_of_another_device_is_left_alone(self, server: EnrolServer, folder: Path) -> None:
        join(server, folder)
        with pytest.raises(Fatal, match=DEVICE):
            join(server, folder, "dev-2")


@pytest.mark.parametrize("url", ["http://host:1", "https://", "https://host:port", "host:8443", "https://host/api"])
def test_server_urls_that_are_none(url: str) -> None:
    with pytest.raises(Fatal):
        parse_server(url)


class TestDamage:
    @pytest.mark.parametrize("name", [identity.DEVICE, identity.ROOT])
    def test_a_damaged_identity_says_what_to_do(self, server: EnrolServer, folder: Path, name: str) -> None:
        join(server, folder)
        (folder / name).unlink()
        with pytest.raises(Fatal, match="enrol again"):
            identity.load(folder)

    @pytest.mark.parametrize("name", [identity.KEY, identity.CERTIFICATE, identity.CA])
    def test_verify_misses_a_file(self, server: EnrolServer, folder: Path, name: str) -> None:
        join(server, folder)
        loaded = identity.load(folder)
        assert loaded is not None
        (folder / name).unlink()
        with pytest.raises(Reject):
            identity.verify(loaded, datetime.now(UTC))

    def test_verify_knows_when_the_certificate_ends(self, server: EnrolServer, folder: Path) -> None:
        join(server, folder)
        loaded = identity.load(folder)
        assert loaded is not None
        with pytest.raises(Reject) as caught:
            identity.verify(loaded, datetime.now(UTC) + timedelta(days=2))
        assert caught.value.code == "certificate-expired"
