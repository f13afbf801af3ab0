"""A virtual device speaks the contract: what it says can be decoded, it keeps its window, repeats after silence, and obeys signed orders alone."""

import hashlib
import random
from datetime import UTC, datetime, timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from fleet_contract import batches, blocks, columns, packets, topics
from fleet_contract.columns import ResultColumns
from fleet_contract.errors import OrderForgery, OrderMisdirected
from fleet_contract.messages import Ack, Batch, Lane, Refusal, Status, Want, decode_from_device, encode
from fleet_contract.order import Order, keyid, sign
from fleet_contract.sketch import counts_of
from hil.virtual_fleet.device import Habits, Now, VirtualDevice
from hil.virtual_fleet.duty import Duty
from hil.virtual_fleet.library import Library
from hil.virtual_fleet.recording import Recorder, Stream
from hil.virtual_fleet.scenario import Link, Load
from hil.virtual_fleet.script import Conditions
from tests.fakes.server_bundles import GRID, make_bundle, reference_of

KEY = Ed25519PrivateKey.from_private_bytes(bytes(32))
PROFILE = "generic-x86-64"
TODAY = datetime(2026, 11, 21, 12, tzinfo=UTC)


def at(monotonic_s: float) -> Now:
    return Now(monotonic_s, int((TODAY.timestamp() + monotonic_s) * 1e6))


def device(load: Load = Load(event_every_s=0, sketch_every_s=0), link: Link = Link(), *, fetches: bool = False) -> VirtualDevice:
    library = Library()
    duty = Duty("cam-1", PROFILE, {keyid(KEY.public_key()): KEY.public_key()}, library, fetches=fetches, patience_s=link.patience_s)
    subject = VirtualDevice("cam-1", Recorder("epoch", "boot", 5), duty, library, Habits(load, link, random.Random(1)))
    subject.connected(at(0))
    subject.begin(0.0)
    return subject


def said(subject: VirtualDevice, now_s: float, room: int = 100) -> list:
    subject.turn(at(now_s), connected=True)
    return [decode_from_device(message.payload) for message in subject.outgoing(at(now_s), room)]


def batches_of(messages: list) -> list[Batch]:
    return [message for message in messages if isinstance(message, Batch)]


def order(archive: bytes = b"bundle", **changes: object) -> bytes:
    wanted = {"device": "cam-1", "profile": PROFILE, "counter": 1, "target_path": "bundles/digits-1.bundle"}
    dates = {"issued_at": TODAY, "not_after": TODAY + timedelta(days=1)}
    return sign(Order(**{**wanted, **dates, "sha256": hashlib.sha256(archive).hexdigest(), "length": len(archive), **changes}), KEY)


def acknowledge(subject: VirtualDevice, batch: Batch, now_s: float) -> None:
    ack = Ack(batch.epoch, batch.lane, [(batch.first, batch.last)])
    subject.receive(topics.down("cam-1", topics.Down.ACK), encode(ack), at(now_s))


def give_order(subject: VirtualDevice, envelope: bytes) -> None:
    subject.receive(topics.down("cam-1", topics.Down.ORDER), envelope, at(1))


def test_results_can_be_read_and_are_numbered_without_a_gap() -> None:
    sent = batches_of(said(device(Load(rate_per_s=2, records_per_message=3, event_every_s=0), Link(window=100)), 10.0, room=1_000))[:4]
    assert [sequence for batch in sent for sequence in batch.sequences] == list(range(12))
    content = batches.unpack(sent[1])
    assert isinstance(content, ResultColumns)
    results = columns.to_results(content)
    assert [result.input_id for result in results] == ["3", "4", "5"]
    assert {result.label for result in results} <= {"low", "high"}


def test_the_first_word_is_a_status_with_the_ledger() -> None:
    subject = device()
    subject.connected(at(5))
    status = said(subject, 5.0)[0]
    assert isinstance(status, Status)
    assert status.ledger[Lane.TELEMETRY].produced == subject.books[Lane.TELEMETRY].produced > 0


def test_connecting_comes_before_recording() -> None:
    subject = VirtualDevice(
        "cam-1", Recorder("epoch", "boot", 5), device().duty, Library(), Habits(Load(status_every_s=1_000), Link(), random.Random(1))
    )
    subject.turn(at(50), connected=False)
    assert subject.due_s == float("inf")
    subject.connected(at(60))
    assert [type(message) for message in said(subject, 60.0)] == [Status]
    subject.begin(100.0)
    assert 100 <= subject.due_s <= 101


def test_heartbeats_of_those_who_connected_together_are_spread() -> None:
    dues = []
    for seed in range(50):
        load = Load(rate_per_s=0.001, status_every_s=100, event_every_s=0, sketch_every_s=0)
        subject = VirtualDevice("cam-1", Recorder("epoch", "boot", 5), device().duty, Library(), Habits(load, Link(), random.Random(seed)))
        subject.connected(at(0))
        said(subject, 0.0)
        dues.append(subject.due_s)
    assert min(dues) < 30
    assert max(dues) > 90


def test_the_window_grows_with_acknowledgements_and_halves_in_silence() -> None:
    subject = device(Load(rate_per_s=100, event_every_s=0, status_every_s=1_000), Link(window=8, patience_s=10))
    first = batches_of(said(subject, 1.0))
    assert len(first) == 4
    for batch in first:
        acknowledge(subject, batch, 1.1)
    assert len(batches_of(said(subject, 1.2))) == 8
    again = batches_of(said(subject, 12.0))
    assert [batch.first for batch in again] == [4, 5, 6, 7]
    assert batches_of(said(subject, 21.0)) == []
    assert [batch.first for batch in batches_of(said(subject, 33.0))] == [4, 5]


def test_what_is_sent_again_is_the_same() -> None:
    subject = device()
    first = batches_of(said(subject, 5.0))
    subject.connected(at(9))
    assert batches_of(said(subject, 9.0))[: len(first)] == first


def test_nothing_is_recorded_after_the_load_and_the_last_word_says_that_nothing_waits() -> None:
    subject = device()
    for batch in batches_of(said(subject, 3.0)):
        acknowledge(subject, batch, 3.1)
    subject.producing = False
    assert not subject.settled
    status = said(subject, 3.2)[0]
    assert status.ledger[Lane.TELEMETRY].queued == 0
    assert subject.settled


def test_a_wrong_wall_clock_dates_records_and_status() -> None:
    subject = device()
    subject.turn(Now(5.0, 3_600_000_000), connected=True)
    messages = [decode_from_device(message.payload) for message in subject.outgoing(Now(5.0, 3_600_000_000), 9)]
    status = next(message for message in messages if isinstance(message, Status))
    assert status.at == datetime(1970, 1, 1, 1, tzinfo=UTC)
    assert columns.to_results(batches.unpack(batches_of(messages)[0]))[0].at.year == 1970


def test_a_flood_is_as_many_times_as_much() -> None:
    calm, wild = device(), device()
    wild.under(Conditions(rate=10))
    for subject in (calm, wild):
        said(subject, 20.0)
    assert wild.books[Lane.TELEMETRY].produced > 9 * calm.books[Lane.TELEMETRY].produced


@pytest.mark.parametrize(
    ("envelope", "error"),
    [
        pytest.param(sign(Order(device="cam-1", profile=PROFILE, counter=1, issued_at=TODAY, not_after=TODAY, target_path="a/b",
                                sha256="0", length=1), Ed25519PrivateKey.generate()), OrderForgery, id="another key"),
        pytest.param(order(device="cam-2"), OrderMisdirected, id="another device's"),
    ],
)  # fmt: skip
def test_an_order_that_does_not_hold_changes_nothing(envelope: bytes, error: type[Exception]) -> None:
    subject = device()
    with pytest.raises(error):
        give_order(subject, envelope)
    assert (subject.duty.counter, subject.duty.bundle) == (0, None)


def test_an_order_is_taken_at_once_and_told() -> None:
    subject = device()
    said(subject, 0.0)
    give_order(subject, order())
    messages = said(subject, 1.0)
    status = next(message for message in messages if isinstance(message, Status))
    assert (status.order_counter, status.bundle) == (1, hashlib.sha256(b"bundle").hexdigest())
    assert [batch.lane for batch in batches_of(messages)][:1] == [Lane.EVENTS]


def test_a_bundle_is_fetched_block_by_block_checked_and_read() -> None:
    archive = make_bundle()
    subject = device(Load(sketch_every_s=5, event_every_s=0), fetches=True)
    give_order(subject, order(archive))
    answer_wants(subject, archive)
    assert subject.duty.bundle == hashlib.sha256(archive).hexdigest()
    windows = [batch for batch in batches_of(said(subject, 9.0)) if batch.lane is Lane.SKETCHES]
    assert len(windows) == 1


def test_a_bundle_with_another_digest_is_rejected() -> None:
    subject = device(fetches=True)
    give_order(subject, order(b"right"))
    answer_wants(subject, b"wrong")
    assert (subject.duty.bundle, subject.duty.fetching) == (None, False)
    assert subject.books[Lane.EVENTS].produced == 1


def test_a_refused_bundle_is_told() -> None:
    subject = device(fetches=True)
    give_order(subject, order())
    want = next(message for message in said(subject, 1.0) if isinstance(message, Want))
    refusal = Refusal(want.request, "not-found", "gone")
    subject.receive(topics.down("cam-1", topics.Down.BLOCKS), encode(refusal), at(1))
    assert subject.books[Lane.EVENTS].produced == 1


def test_drift_moves_the_windows() -> None:
    import numpy as np

    stream = Stream(reference_of(0.4))
    healthy, moved = (counts_of(stream.window(10_000, drift, np.random.default_rng(3)), GRID)[0] for drift in (0.0, 0.25))
    assert (moved * np.arange(len(moved))).sum() > (healthy * np.arange(len(healthy))).sum() * 1.2


def answer_wants(subject: VirtualDevice, archive: bytes) -> None:
    size = blocks.block_bytes_for(len(archive))
    while subject.duty.fetching:
        want = next(message for message in said(subject, 1.0) if isinstance(message, Want))
        found = [(number, archive[number * size : (number + 1) * size]) for number in blocks.from_bitmap(want.need)]
        for packet in packets.pack(want.request, len(archive), size, found):
            subject.receive(topics.down("cam-1", topics.Down.BLOCKS), encode(packet), at(1))
