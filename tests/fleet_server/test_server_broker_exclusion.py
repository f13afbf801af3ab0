"""Whom a broker of ours keeps out, told while it runs: the same tests over Mosquitto and the embedded one."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509

from fleet_contract import topics
from fleet_contract.mqtt import Tls
from fleet_contract.topics import Down, Up
from fleet_server.mqtt.admission import CRL_FILE, Admission
from fleet_server.services.quarantine import Excluded
from tests.fakes.server_broker import KINDS, Client, Place, connected, new_place, until


class Kept:
    """A broker, and who is kept out of it."""

    def __init__(self, kind: str, folder: Path) -> None:
        self.started: list[int] = []
        self.place: Place = new_place(kind, folder, self.started.append)
        self.excluded = Excluded()
        self.admission = Admission(lambda: self.excluded, self.place.ca, folder / "broker")
        self.keep_out(Excluded())
        self.place.child.start()

    def keep_out(self, excluded: Excluded) -> None:
        self.excluded = excluded
        self.admission.renew(self.place.child.exclude)


@pytest.fixture(params=KINDS)
def kept(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Kept]:
    made = Kept(request.param, tmp_path)
    yield made
    made.place.child.close()


def serial(tls: Tls) -> int:
    return x509.load_pem_x509_certificate(tls.certificate.read_bytes()).serial_number


def marked(server: Client, sender: Client, device: str) -> list[bytes]:
    """What reached the server before a marker that this sender is allowed to send."""
    sender.publish(topics.up(device, Up.RECORDS), b"marker")
    return server.until_marker()


def test_an_excluded_device_is_heard_no_more_and_others_are(kept: Kept) -> None:
    place = kept.place
    with connected(place, place.server) as server, connected(place, place.device("good")) as good:
        server.subscribe(topics.all_up())
        good.subscribe(topics.all_down("good"))
        bad = Client(place, place.device("bad")).connect()
        bad.publish(topics.up("bad", Up.RECORDS), b"before")
        assert server.next()[1] == b"before"
        kept.keep_out(Excluded(frozenset({"bad"})))
        assert not kept.admission.may("bad")
        assert kept.admission.may("good")
        until(lambda: b"after" not in _says(bad, server, good))
        server.publish(topics.down("good", Down.ACK), b"ack")
        assert good.next()[1] == b"ack"
        assert not good.gone.is_set()
        bad.close()


def _says(bad: Client, server: Client, good: Client) -> list[bytes]:
    bad.client.publish(topics.up("bad", Up.RECORDS), b"after", qos=1)
    return marked(server, good, "good")


def test_a_revoked_certificate_opens_no_connection_and_a_new_one_does(kept: Kept) -> None:
    place = kept.place
    old, new = place.device("cam", "old"), place.device("cam", "new")
    assert _can_connect(place, old)
    kept.keep_out(Excluded(serials=frozenset({serial(old)})))
    until(lambda: not _can_connect(place, old))
    with connected(place, new) as device, connected(place, place.server) as server:
        server.subscribe(topics.all_up())
        assert marked(server, device, "cam") == []


def _can_connect(place: Place, tls: Tls) -> bool:
    client = Client(place, tls)
    try:
        return client.try_to_connect()
    finally:
        client.close()


def test_it_holds_after_the_broker_was_killed(kept: Kept) -> None:
    place = kept.place
    revoked = place.device("cam")
    kept.keep_out(Excluded(serials=frozenset({serial(revoked)})))
    place.child._process.kill()
    until(lambda: len(kept.started) == 2)
    assert _can_connect(place, place.server)
    assert not _can_connect(place, revoked)


def test_nothing_new_is_not_told_again(kept: Kept) -> None:
    told = []
    kept.admission.renew(told.append)
    assert told == []
    assert (kept.place.folder / "broker" / CRL_FILE).exists()
