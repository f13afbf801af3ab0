"""The inside of a batch: columns for telemetry, rows for the other lanes; what is wrong is named, and costs no memory."""

from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet_contract import batches, columns, limits, messages
from fleet_contract.answers.detail import Ranking
from fleet_contract.batches import Rows
from fleet_contract.columns import ResultColumns, Words
from fleet_contract.errors import MalformedMessage
from fleet_contract.instants import EPOCH
from fleet_contract.messages import Batch, Lane, Result
from tests.golden import specimens

AT = datetime(2026, 11, 20, 12, 30, tzinfo=UTC)
SHA = "ab" * 32
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
results = st.builds(
    Result,
    at=st.integers(-(2**50), 2**52).map(lambda us: EPOCH + timedelta(microseconds=us)),
    bundle=st.sampled_from([SHA, "0" * 64]),
    input_id=texts,
    label=st.none() | texts,
    value=st.floats(allow_nan=False),
    latency_us=st.integers(0, limits.MAX_COUNT),
    abstained=st.sampled_from([True, msgspec.UNSET]),
    detail=st.sampled_from([msgspec.UNSET, Ranking(["a"], [0.5])]),
)


def a_result(number: int) -> Result:
    return Result(at=AT + timedelta(seconds=number), bundle=SHA, input_id=f"frame-{number}", label="7", value=0.5, latency_us=200 + number)


def some_columns(rows: int = 3) -> ResultColumns:
    return columns.from_results([a_result(number) for number in range(rows)], range(rows))


def batch_of(content: ResultColumns | Rows, **said: object) -> Batch:
    packed = batches.seal(content)
    lane = Lane.TELEMETRY if isinstance(content, ResultColumns) else Lane.EVENTS
    whole = Batch("e1", lane, 0, packed.count, packed.codec, packed.length, packed.data, "b1")
    return msgspec.structs.replace(whole, **said)


@given(st.lists(results, min_size=1, max_size=20))
def test_results_come_back_from_columns_as_they_were(some: list[Result]) -> None:
    mono_us = [1_000 * number for number in range(len(some))]
    content = batches.unpack(batches.make("e1", Lane.TELEMETRY, 5, some, mono_us=mono_us))
    assert isinstance(content, ResultColumns)
    assert (columns.to_results(content), columns.sums(content.mono_us)) == (some, mono_us)


@pytest.mark.parametrize("name", ["event", "sketch", "sample"])
def test_other_records_come_back_from_rows_as_they_were(name: str) -> None:
    record = specimens.records()[name]
    content = batches.unpack(batches.make("e1", messages.LANE_OF[type(record)], 0, [record, record], mono_us=[1, 2]))
    assert isinstance(content, Rows)
    assert ([messages.decode_record(wire) for wire in content.records], content.mono_us) == ([record, record], [1, 2])


def test_one_bad_record_does_not_spoil_its_batch() -> None:
    good = messages.encode_record(specimens.records()["event"])
    content = batches.unpack(batch_of(Rows([b"\xc1", good], [0, 0])))
    assert messages.decode_record(content.records[1]) == specimens.records()["event"]


def test_a_hundred_rows_of_telemetry_take_less_than_twenty_five_bytes_each() -> None:
    assert len(messages.encode(batches.make("e1", Lane.TELEMETRY, 0, [a_result(number) for number in range(100)]))) < 2_500


@pytest.mark.parametrize(
    ("change", "field"),
    [
        pytest.param({"value": b"1234567"}, "at_us", id="half a value"),
        pytest.param({"at_us": bytes(16)}, "at_us", id="a time too few"),
        pytest.param({"latency_us": bytes(32)}, "latency_us", id="a latency too many"),
        pytest.param({"bundle": bytes(4)}, "bundle", id="a bundle too few"),
        pytest.param({"label": b"\x09\0" * 3}, "label", id="a label that is not in the list"),
        pytest.param({"labels": []}, "label", id="no labels at all"),
        pytest.param({"bundles": []}, "bundle", id="no bundles at all"),
        pytest.param({"abstained": bytes(2)}, "abstained", id="an abstention too few"),
        pytest.param({"details": [None]}, "details", id="a detail too few"),
        pytest.param({"input_id": Words(b"abc", b"\x01\0\0\0")}, "input_id", id="an id too few"),
        pytest.param({"input_id": Words(b"abc", b"\x03\0\0\0\x02\0\0\0\x03\0\0\0")}, "input_id", id="ids that overlap"),
        pytest.param({"input_id": Words(b"abc", b"\x01\0\0\0\x02\0\0\0\x04\0\0\0")}, "input_id", id="an id beyond the text"),
        pytest.param({"input_id": Words(b"\xc3\xa4\xff", b"\x01\0\0\0\x02\0\0\0\x03\0\0\0")}, "input_id", id="an id that is no text"),
    ],
)
def test_columns_that_do_not_fit_each_other_are_refused(change: dict, field: str) -> None:
    with pytest.raises(MalformedMessage) as caught:
        batches.unpack(batch_of(msgspec.structs.replace(some_columns(), **change), count=3))
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("said", "field"),
    [
        pytest.param({"count": 31}, "count", id="another count"),
        pytest.param({"length": 10}, "data", id="a shorter length"),
        pytest.param({"data": b"\xc1"}, "data", id="no zstd"),
        pytest.param({"lane": Lane.SAMPLES}, "data", id="columns in a lane of rows"),
        pytest.param({"codec": "none"}, "data", id="another codec"),
    ],
)
def test_a_batch_that_says_what_is_not_so_is_refused(said: dict, field: str) -> None:
    with pytest.raises(MalformedMessage) as caught:
        batches.unpack(batch_of(some_columns(30), **said))
    assert caught.value.field == field


def test_rows_without_their_times_are_refused() -> None:
    with pytest.raises(MalformedMessage, match="times"):
        batches.unpack(batch_of(Rows([b"x"], []), count=1))


def test_a_thinned_batch_names_every_second_number() -> None:
    batch = batch_of(some_columns(), first=10, stride=2)
    assert ([*batch.sequences], batch.last) == ([10, 12, 14], 14)


@pytest.mark.parametrize(
    "said",
    [
        pytest.param({"count": 0}, id="no record"),
        pytest.param({"count": limits.MAX_BATCH_RECORDS + 1}, id="too many records"),
        pytest.param({"length": limits.MAX_BATCH_DATA_BYTES + 1}, id="too long"),
        pytest.param({"stride": 0}, id="no stride"),
        pytest.param({"first": -1}, id="a number below zero"),
        pytest.param({"first": limits.MAX_COUNT}, id="a last number out of range"),
        pytest.param({"boot": "b" * (limits.MAX_NAME_CHARS + 1)}, id="a long name of the boot"),
    ],
)
def test_an_envelope_out_of_bounds_does_not_arrive(said: dict) -> None:
    whole = batch_of(some_columns())
    fields = {"type": "batch", **{name: getattr(whole, name) for name in Batch.__struct_fields__ if name != "trace"}}
    assert messages.decode_from_device(msgspec.msgpack.encode((messages.VERSION, fields))) == whole
    with pytest.raises(MalformedMessage):
        messages.decode_from_device(msgspec.msgpack.encode((messages.VERSION, fields | said)))
