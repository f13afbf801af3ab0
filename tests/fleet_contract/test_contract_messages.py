"""What is sent is read back; what is malformed, too large or of another version is a typed error and nothing else."""

from datetime import UTC, datetime, timedelta, timezone

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet_contract import batches, limits, messages
from fleet_contract.errors import MalformedMessage, TooLarge, UnknownVersion
from fleet_contract.messages import (
    Ack,
    Batch,
    Event,
    Lane,
    LaneLedger,
    Packet,
    Progress,
    Refusal,
    Result,
    Sample,
    SketchWindow,
    Status,
    Url,
    Want,
    WantUrl,
)
from fleet_contract.sketch import Sketch
from tests.golden import specimens

AT = specimens.AT
# MessagePack's timestamps end where Python's do, and begin with year 1
times = st.datetimes(timezones=st.just(UTC))
counts = st.integers(0, limits.MAX_COUNT)
texts = st.text(max_size=40)
floats = st.floats(allow_nan=False)
details = st.dictionaries(texts, st.one_of(texts, st.integers(-(2**63), 2**63 - 1), floats, st.booleans()), max_size=4)
sketches = st.builds(Sketch, rows=counts, counts=st.binary(max_size=60), missing=st.binary(max_size=20), moments=st.binary(max_size=60))
records = st.one_of(
    st.builds(Event, at=times, kind=texts, detail=details),
    st.builds(SketchWindow, start=times, end=times, bundle=texts, first_input=counts, inputs=counts, sketch=sketches),
    st.builds(Result, at=times, bundle=texts, input_id=texts, label=st.none() | texts, value=floats, latency_us=counts),
    st.builds(
        Sample,
        at=times,
        bundle=texts,
        campaign=texts,
        input_id=texts,
        media_type=texts,
        data=st.binary(max_size=200),
        label=st.none() | texts,
        value=floats,
    ),
)
lanes = st.sampled_from(Lane)
dropped = st.dictionaries(texts, counts, max_size=3)
ledgers = st.dictionaries(lanes, st.builds(LaneLedger, produced=counts, acknowledged=counts, queued=counts, dropped=dropped))
from_device = st.one_of(
    st.builds(Status, at=times, online=st.booleans(), epoch=texts, refused=dropped, ledger=ledgers, error=st.none() | texts),
    st.builds(
        Batch,
        epoch=texts,
        lane=lanes,
        first=st.integers(0, 2**40),
        count=st.integers(1, limits.MAX_BATCH_RECORDS),
        codec=st.sampled_from(("none", "zstd")),
        length=st.integers(0, limits.MAX_BATCH_DATA_BYTES),
        data=st.binary(max_size=200),
        boot=st.text(max_size=limits.MAX_NAME_CHARS),
        clock=st.sampled_from(("trusted", "untrusted", "corrected")),
        stride=st.integers(1, limits.MAX_STRIDE_COUNT),
    ),
    st.builds(Want, request=texts, path=texts, block_bytes=counts, need=st.binary(max_size=40)),
    st.builds(WantUrl, request=texts, path=texts),
    st.builds(Progress, request=texts, sequence=counts),
)
ranges = st.tuples(counts, counts).map(lambda pair: (min(pair), max(pair)))
to_device = st.one_of(
    st.builds(Ack, epoch=texts, lane=lanes, ranges=st.lists(ranges, max_size=5)),
    st.builds(
        Packet,
        request=texts,
        sequence=counts,
        length=counts,
        block_bytes=counts,
        numbers=st.lists(counts, max_size=limits.MAX_BLOCKS_PER_PACKET),
        codec=st.sampled_from(["none", "zstd"]),
        data=st.binary(max_size=200),
    ),
    st.builds(Url, request=texts, url=texts, expires_at=times),
    st.builds(Refusal, request=texts, code=texts, reason=texts),
)


@given(records)
def test_a_record_survives_the_wire(record: messages.Record) -> None:
    assert messages.decode_record(messages.encode_record(record)) == record


@given(from_device)
def test_a_message_from_a_device_survives_the_wire(message: messages.FromDevice) -> None:
    assert messages.decode_from_device(messages.encode(message)) == message


@given(to_device)
def test_a_message_to_a_device_survives_the_wire(message: messages.ToDevice) -> None:
    assert messages.decode_to_device(messages.encode(message)) == message


@given(st.one_of(from_device, to_device), st.data())
def test_a_spoilt_message_is_read_as_something_or_is_a_typed_error(message: messages.Message, data: st.DataObject) -> None:
    wire = bytearray(messages.encode(message))
    for _ in range(data.draw(st.integers(1, 3))):
        wire[data.draw(st.integers(0, len(wire) - 1))] ^= data.draw(st.integers(1, 255))
    for decode in (messages.decode_from_device, messages.decode_to_device, messages.decode_record):
        try:
            decode(bytes(wire))
        except (MalformedMessage, TooLarge, UnknownVersion):
            continue


@given(st.binary(max_size=200))
def test_noise_is_a_typed_error(noise: bytes) -> None:
    for decode in (messages.decode_from_device, messages.decode_to_device):
        with pytest.raises((MalformedMessage, UnknownVersion)):
            decode(noise)


def test_every_record_has_one_lane_and_lanes_stand_in_their_order_of_priority() -> None:
    assert {messages.LANE_OF[type(record)] for record in specimens.records().values()} == {*Lane}
    assert list(Lane) == [Lane.EVENTS, Lane.SKETCHES, Lane.TELEMETRY, Lane.SAMPLES]


def test_a_time_of_another_zone_comes_back_as_the_same_instant() -> None:
    there = AT.astimezone(timezone(timedelta(hours=9)))
    assert messages.decode_record(messages.encode_record(Event(at=there, kind="x"))).at == AT


def packed(body: object, version: object = messages.VERSION) -> bytes:
    return msgspec.msgpack.encode((version, body))


STATUS = {"type": "status", "at": AT, "online": True, "epoch": "e"}
BATCH = {"type": "batch", "epoch": "e", "lane": "events", "first": 0, "count": 1, "codec": "none", "length": 0, "data": b"", "boot": "b"}
ACK = {"type": "ack", "epoch": "e", "lane": "events", "ranges": [[0, 1]]}
PACKET = {"type": "packet", "request": "r", "sequence": 0, "length": 1, "block_bytes": 4096, "numbers": [0], "codec": "none", "data": b"x"}


@pytest.mark.parametrize("body", [STATUS, BATCH], ids=["status", "batch"])
def test_what_is_spoilt_below_is_taken_while_it_is_whole(body: dict) -> None:
    assert messages.decode_from_device(packed(body))


@pytest.mark.parametrize(
    ("wire", "error"),
    [
        pytest.param(b"", MalformedMessage, id="nothing"),
        pytest.param(b"\xc1", MalformedMessage, id="a byte MessagePack never uses"),
        pytest.param(packed(STATUS)[:-1], MalformedMessage, id="cut short"),
        pytest.param(packed(STATUS) + b"\0", MalformedMessage, id="something after the end"),
        pytest.param(msgspec.msgpack.encode(STATUS), MalformedMessage, id="no version"),
        pytest.param(packed(STATUS, version=2), UnknownVersion, id="a version of the future"),
        pytest.param(packed({"type": "riddle"}, version=2), UnknownVersion, id="a future version with a body nobody knows yet"),
        pytest.param(packed(STATUS, version=0), UnknownVersion, id="version zero"),
        pytest.param(packed(STATUS, version=True), MalformedMessage, id="a version that is no number"),
        pytest.param(packed({"type": "riddle"}), MalformedMessage, id="an unknown kind"),
        pytest.param(packed(ACK), MalformedMessage, id="a kind that only the server sends"),
        pytest.param(packed(STATUS | {"colour": "red"}), MalformedMessage, id="an unknown field"),
        pytest.param(packed({"type": "status"}), MalformedMessage, id="missing fields"),
        pytest.param(packed(STATUS | {"at": AT.replace(tzinfo=None)}), MalformedMessage, id="a time without a zone"),
        pytest.param(packed(STATUS | {"online": 1}), MalformedMessage, id="a number for a truth"),
        pytest.param(packed(STATUS | {"epoch": b"e"}), MalformedMessage, id="bytes for text"),
        pytest.param(packed(BATCH | {"lane": "gossip"}), MalformedMessage, id="an unknown lane"),
        pytest.param(packed(BATCH | {"first": -1}), MalformedMessage, id="a negative sequence number"),
        pytest.param(packed(BATCH | {"first": 2**63}), MalformedMessage, id="a sequence number beyond the limit"),
        pytest.param(b"\x91" * 60_000, MalformedMessage, id="nested without end"),
        pytest.param(b"\x92\x01" + b"\x91" * 60_000, MalformedMessage, id="a body nested without end"),
        pytest.param(b"\x92\x01\xdd\xff\xff\xff\xff", MalformedMessage, id="four billion elements announced"),
        pytest.param(bytes(limits.MAX_MESSAGE_BYTES + 1), TooLarge, id="too many bytes"),
    ],
)
def test_what_the_server_does_not_take(wire: bytes, error: type[Exception]) -> None:
    with pytest.raises(error) as caught:
        messages.decode_from_device(wire)
    assert caught.value.field  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(STATUS, id="a kind that only devices send"),
        pytest.param(ACK | {"ranges": [[5, 4]]}, id="a range that ends before it begins"),
        pytest.param(ACK | {"ranges": [[-1, 4]]}, id="a negative range"),
        pytest.param(ACK | {"ranges": [[1]]}, id="half a range"),
        pytest.param(ACK | {"ranges": [[0, 2**64 - 1]]}, id="a range beyond the limit"),
        pytest.param(PACKET | {"numbers": [-1]}, id="a negative block number"),
        pytest.param(PACKET | {"length": -1}, id="a negative length"),
        pytest.param(PACKET | {"sequence": -1}, id="a negative sequence number"),
        pytest.param(PACKET | {"codec": "lzma"}, id="an unknown codec"),
        pytest.param(
            {"type": "url", "request": "r", "url": "https://x", "expires_at": AT.replace(tzinfo=None)}, id="an end without a zone"
        ),
    ],
)
def test_what_a_device_does_not_take(body: dict) -> None:
    with pytest.raises(MalformedMessage):
        messages.decode_to_device(packed(body))


def test_a_reversed_range_is_not_even_made() -> None:
    with pytest.raises(MalformedMessage):
        Ack(epoch="e", lane=Lane.EVENTS, ranges=[(3, 2)])


@pytest.mark.parametrize(
    "wire",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"\x91" * 40_000, id="nested without end"),
        pytest.param(messages.encode(specimens.to_device()["ack"]), id="a message"),
        pytest.param(msgspec.msgpack.encode({"type": "event", "at": AT, "kind": "x", "detail": {"deep": {"er": 1}}}), id="a nested detail"),
    ],
)
def test_a_malformed_record_is_an_error(wire: bytes) -> None:
    with pytest.raises(MalformedMessage):
        messages.decode_record(wire)


def test_limits_hold_on_both_sides() -> None:
    too_long = "x" * limits.MAX_RECORD_BYTES
    with pytest.raises(TooLarge) as caught:
        messages.encode_record(Event(at=AT, kind=too_long))
    assert caught.value.limit == limits.MAX_RECORD_BYTES
    with pytest.raises(TooLarge):
        messages.decode_record(bytes(limits.MAX_RECORD_BYTES + 1))
    with pytest.raises(TooLarge) as caught:
        messages.encode(Status(at=AT, online=True, epoch="e", error="x" * limits.MAX_MESSAGE_BYTES))
    assert (caught.value.field, caught.value.limit) == ("Status", limits.MAX_MESSAGE_BYTES)


def test_the_largest_packet_and_the_largest_sample_fit_their_envelopes() -> None:
    numbers = [limits.MAX_COUNT] * limits.MAX_BLOCKS_PER_PACKET
    packet = Packet("r" * 64, limits.MAX_COUNT, limits.MAX_COUNT, limits.MAX_BLOCK_BYTES, numbers, "none", bytes(limits.MAX_PACKET_BYTES))
    assert messages.decode_to_device(messages.encode(packet)) == packet
    sample = Sample(
        at=datetime(9999, 12, 31, tzinfo=UTC),
        bundle="a" * 64,
        campaign="c" * limits.MAX_NAME_CHARS,
        input_id="i" * 255,
        media_type="application/json",
        data=bytes(limits.MAX_SAMPLE_BYTES),
        label="l" * 1_000,
        value=0.5,
    )
    batch = batches.make("e" * limits.MAX_NAME_CHARS, Lane.SAMPLES, limits.MAX_COUNT, [sample], boot="b" * limits.MAX_NAME_CHARS)
    assert messages.decode_from_device(messages.encode(batch)) == batch
