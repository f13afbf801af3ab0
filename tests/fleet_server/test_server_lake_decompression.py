"""Batches decompressed together: each exactly as it would be alone, and what is wrong with one is left to that one."""

import msgspec
import pytest

from fleet_contract import batches, compression
from fleet_contract.compression import zstd
from fleet_contract.messages import Batch, Lane
from fleet_server.lake import decompression

TEXT = b"columns of records " * 50


def a_batch(data: bytes = TEXT) -> Batch:
    codec, packed = compression.compress(data)
    return Batch("e1", Lane.TELEMETRY, 0, 1, codec, len(data), packed, "b1")


def whole(found: memoryview | None) -> bytes | None:
    return None if found is None else bytes(found)


def test_each_is_as_it_was_in_the_order_that_they_came() -> None:
    texts = [TEXT, b"short", TEXT * 2, TEXT[5:]]
    found = decompression.contents([a_batch(text) for text in texts])
    assert [whole(each) for each in found] == [TEXT, None, TEXT * 2, TEXT[5:]]


def test_more_than_fits_at_once_comes_in_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decompression, "_MAX_GROUP_BYTES", len(TEXT) + 10)
    texts = [TEXT, TEXT[1:], TEXT * 3, TEXT]
    assert [whole(each) for each in decompression.contents([a_batch(text) for text in texts])] == texts


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param({"length": len(TEXT) - 1}, id="longer than it says"),
        pytest.param({"length": len(TEXT) + 1}, id="shorter than it says"),
        pytest.param({"codec": "none"}, id="not compressed"),
        pytest.param({"data": b""}, id="nothing"),
        pytest.param({"data": b"\x28\xb5\x2f\xfd"}, id="a header cut off"),
        pytest.param({"data": zstd.compress(TEXT)[:-3]}, id="cut off"),
        pytest.param({"data": zstd.compress(TEXT) + b"x"}, id="something behind it"),
        pytest.param({"data": zstd.compress(TEXT[:500]) + zstd.compress(TEXT[500:])}, id="two frames"),
        pytest.param({"data": zstd.ZstdCompressor().compress(TEXT, zstd.ZstdCompressor.FLUSH_FRAME)}, id="a frame that may say no length"),
        pytest.param({"data": b"\x50\x2a\x4d\x18\x04\x00\x00\x00abcd", "length": 0}, id="a frame to be skipped"),
    ],
)
def test_what_is_not_plainly_one_frame_of_its_length_is_for_itself(wrong: dict) -> None:
    odd = msgspec.structs.replace(a_batch(), **wrong)
    first, between, last = decompression.contents([a_batch(), odd, a_batch()])
    assert (whole(first), whole(last)) == (TEXT, TEXT)
    assert between is None or bytes(between) == compression.decompress(odd.codec, odd.data, odd.length)


def test_a_frame_that_is_spoilt_inside_leaves_its_group_to_be_read_one_by_one() -> None:
    good = a_batch()
    spoilt = msgspec.structs.replace(good, data=good.data[:-4] + bytes(4))
    assert list(decompression.contents([good, spoilt])) == [None, None]
    assert batches.compression.decompress(good.codec, good.data, good.length) == TEXT
