"""The MQTT session's inputs: a URL, three files, and an attempt that fails. What it does with a broker is in the brokers' conformance tests."""

import logging
import queue
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import pytest

from fleet_contract import mqtt
from fleet_contract.backoff import Backoff
from fleet_contract.broker import BadIdentity, BadUrl, Tls
from fleet_contract.mqtt import Session
from fleet_server.trust import device_ca

AT_ONCE = Backoff(first_s=0.01, longest_s=0.01)


@pytest.fixture
def tls(tmp_path: Path) -> Tls:
    """The server's own identity, of a CA made for the test."""
    device_ca.create(tmp_path, "demo", lambda: datetime.now(UTC)).renew_own(("localhost",))
    return Tls(tmp_path / "ca.pem", tmp_path / "fleet-server.pem", tmp_path / "fleet-server.key")


def session(tls: Tls, url: str = "mqtts://localhost:1") -> Session:
    return Session(url, "cam-1", tls, subscriptions=[], on_message=lambda *_: None, backoff=AT_ONCE)


@pytest.mark.parametrize(
    ("url", "host", "port"),
    [
        pytest.param("mqtts://fleet.example", "fleet.example", 8883, id="the usual port"),
        pytest.param("mqtts://10.0.0.1:1883", "10.0.0.1", 1883, id="an address"),
        pytest.param("mqtts://[::1]:9", "::1", 9, id="IPv6"),
    ],
)
def test_a_broker_is_found_by_its_url(url: str, host: str, port: int) -> None:
    assert mqtt.parse_url(url) == (host, port)


@pytest.mark.parametrize(
    ("url", "port"),
    [pytest.param("mqtt://127.0.0.1", 1883, id="the usual port"), pytest.param("mqtt://localhost:9", 9, id="another port")],
)
def test_a_broker_of_the_site_may_be_plain_where_that_is_asked_for(url: str, port: int) -> None:
    assert mqtt.parse_url(url, "mqtt")[1] == port
    with pytest.raises(BadUrl):
        mqtt.parse_url(url.replace("mqtt:", "mqtts:"), "mqtt")


@pytest.mark.parametrize(
    "url",
    [
        pytest.param("", id="nothing"),
        pytest.param("mqtt://fleet.example", id="without TLS"),
        pytest.param("https://fleet.example", id="another protocol"),
        pytest.param("mqtts://", id="no host"),
        pytest.param("mqtts://fleet.example:70000", id="a port beyond the last"),
        pytest.param("mqtts://fleet.example:x", id="a port that is no number"),
        pytest.param("mqtts://" + "a" * 64 + ".example", id="a label that no resolver takes"),
        pytest.param("mqtts://a..b", id="an empty label"),
    ],
)
def test_a_url_that_leads_to_no_broker_is_an_error(url: str) -> None:
    with pytest.raises(BadUrl) as caught:
        mqtt.parse_url(url)
    assert caught.value.field == "broker"


@pytest.mark.parametrize(("file", "field"), [("ca", "ca"), ("certificate", "certificate"), ("key", "certificate")])
@pytest.mark.parametrize("content", [pytest.param(None, id="missing"), pytest.param("not PEM", id="not PEM")])
def test_an_identity_that_cannot_be_used_is_an_error_at_once(tls: Tls, file: str, field: str, content: str | None) -> None:
    path: Path = getattr(tls, file)
    path.unlink()
    if content is not None:
        path.write_text(content)
    with pytest.raises(BadIdentity, match=path.name) as caught:
        session(tls)
    assert caught.value.field == field


def test_a_key_of_another_certificate_is_an_error(tls: Tls) -> None:
    with pytest.raises(BadIdentity):
        session(Tls(tls.ca, tls.certificate, tls.ca.with_name("server.key")))


class _Heard(logging.Handler):
    """An event for the first record that holds a text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self._text, self.event = text, threading.Event()

    def emit(self, record: logging.LogRecord) -> None:
        if self._text in record.getMessage():
            self.event.set()


@pytest.fixture
def heard() -> _Heard:
    handler = _Heard("stays offline")
    logger = logging.getLogger(mqtt.__name__)
    logger.addHandler(handler)
    yield handler
    logger.removeHandler(handler)


def test_an_identity_that_vanishes_is_reported_and_tried_again(tls: Tls, heard: _Heard) -> None:
    made = session(tls)
    tls.certificate.unlink()
    made.start()
    try:
        assert heard.event.wait(10)
        heard.event.clear()
        assert heard.event.wait(10), "the thread ended"
    finally:
        made.close()


def test_an_attempt_that_breaks_does_not_end_the_session(tls: Tls, monkeypatch: pytest.MonkeyPatch) -> None:
    attempts = threading.Semaphore(0)

    def fail(*_: object, **__: object) -> None:
        attempts.release()
        raise RuntimeError("a mistake")

    monkeypatch.setattr(mqtt._Client, "connect", fail)
    made = session(tls)
    made.start()
    try:
        assert attempts.acquire(timeout=10)
        assert attempts.acquire(timeout=10)
    finally:
        made.close()


def test_connections_that_end_at_once_wait_longer_each_time(tls: Tls, monkeypatch: pytest.MonkeyPatch) -> None:
    """As those of two holders of one key do, who take over from each other."""
    attempts: queue.Queue[int] = queue.Queue()
    connected = threading.Event()

    class Told(Backoff):
        def wait_s(self, attempt: int, uniform: Callable[[], float]) -> float:
            attempts.put(attempt)
            return 0.0

    def welcome_and_end(client: mqtt._Client) -> None:
        client.on_connect(client, None, None, SimpleNamespace(is_failure=False), None)
        client.ended.set()

    monkeypatch.setattr(mqtt._Client, "connect", lambda *_, **__: None)
    monkeypatch.setattr(mqtt._Client, "loop_start", welcome_and_end)
    url, on_message = "mqtts://localhost:1", lambda *_: None
    made = Session(url, "cam-1", tls, subscriptions=["a"], on_message=on_message, on_connected=connected.set, backoff=Told())
    made.start()
    try:
        assert [attempts.get(timeout=10) for _ in range(4)] == [1, 2, 3, 4]
        assert connected.is_set()
    finally:
        made.close()
