"""Routing: which message of a device goes where, and what becomes of one that cannot be used."""

from datetime import UTC, datetime

import msgspec
import pytest

from fleet_contract import batches, limits, messages, topics
from fleet_contract.messages import Event, Lane, Progress, Refusal, Status, Want, WantUrl
from fleet_contract.mqtt import Offline
from fleet_contract.topics import Up
from fleet_server.mqtt.counts import Count, Counts
from fleet_server.mqtt.link import FleetLink

STATUS = Status(at=datetime(2027, 1, 1, tzinfo=UTC), online=True, epoch="e1")
BATCH = batches.make("e1", Lane.EVENTS, 0, [Event(at=STATUS.at, kind="x")])
WANT = Want(request="r1", path="metadata/timestamp.json", block_bytes=4096, need=b"\x01")


class Routed:
    """A link that was never connected, with its hands open."""

    def __init__(self) -> None:
        self.link = FleetLink(Counts())
        self.wants: list[tuple[str, Want | WantUrl | Progress]] = []
        self.pubacks = 0
        self.statuses: list[tuple[str, Status]] = []
        self.link.hand_to(
            lambda device, status: self.statuses.append((device, status)),
            lambda device, want: self.wants.append((device, want)),
        )

    def receive(self, topic: str, payload: bytes) -> None:
        self.link.route(topic, payload, self._puback)

    def _puback(self) -> None:
        self.pubacks += 1


def test_statuses_are_retained_and_acknowledged_at_once() -> None:
    routed = Routed()
    routed.receive(topics.up("cam-1", Up.STATUS), messages.encode(STATUS))
    assert (routed.statuses, routed.pubacks) == ([("cam-1", STATUS)], 1)


@pytest.mark.parametrize(
    "request_",
    [WANT, WantUrl(request="r1", path="targets/model"), Progress(request="pass", sequence=16)],
    ids=["blocks", "address", "progress"],
)
def test_what_is_about_files_goes_to_the_files_and_is_acknowledged_at_once(request_: Want | WantUrl | Progress) -> None:
    routed = Routed()
    routed.receive(topics.up("cam-1", Up.WANT), messages.encode(request_))
    assert (routed.wants, routed.pubacks) == ([("cam-1", request_)], 1)


@pytest.mark.parametrize(
    ("topic", "payload", "count"),
    [
        pytest.param(topics.up("cam-1", Up.RECORDS), b"\xc1", Count.MALFORMED, id="not-msgpack"),
        pytest.param(topics.up("cam-1", Up.RECORDS), b"\x91" * 60_000, Count.MALFORMED, id="nested-without-end"),
        pytest.param(topics.up("cam-1", Up.RECORDS), bytes(limits.MAX_MESSAGE_BYTES + 1), Count.MALFORMED, id="too-large"),
        pytest.param(topics.up("cam-1", Up.RECORDS), msgspec.msgpack.encode((2, STATUS)), Count.UNKNOWN_VERSION, id="version-of-tomorrow"),
        pytest.param(topics.up("cam-1", Up.STATUS), messages.encode(BATCH), Count.WRONG_KIND, id="batch-as-status"),
        pytest.param(topics.up("cam-1", Up.WANT), messages.encode(STATUS), Count.WRONG_KIND, id="status-as-want"),
        pytest.param(topics.ROOT + "/cam-1/up/gossip", messages.encode(STATUS), Count.FOREIGN_TOPIC, id="unknown-kind"),
        pytest.param(topics.ROOT + "/CAM 1/up/status", messages.encode(STATUS), Count.FOREIGN_TOPIC, id="id-outside-the-charset"),
        pytest.param("elsewhere", messages.encode(STATUS), Count.FOREIGN_TOPIC, id="elsewhere"),
    ],
)
def test_unusable_message_is_counted_and_let_go(topic: str, payload: bytes, count: Count) -> None:
    routed = Routed()
    routed.receive(topic, payload)
    routed.receive(topics.up("cam-1", Up.STATUS), messages.encode(STATUS))
    assert routed.link.counts.snapshot()[count] == 1
    assert (routed.pubacks, len(routed.statuses), routed.wants) == (2, 1, [])


def test_a_topic_that_was_emptied_says_nothing() -> None:
    routed = Routed()
    routed.receive(topics.up("cam-1", Up.STATUS), b"")
    assert (routed.pubacks, routed.statuses, routed.link.counts.snapshot()[Count.MALFORMED]) == (1, [], 0)


def test_offline_link_keeps_orders_for_later_and_says_so_for_answers() -> None:
    link = FleetLink(Counts())
    link.publish_orders({"cam-1": b"order"})
    assert link.stale.is_set()
    with pytest.raises(Offline):
        link.send_answer("cam-1", Refusal(request="r1", code="not-found", reason="no file"))
