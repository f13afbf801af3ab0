"""Applying a difference: what it makes, and that no bytes whatever make it read, write, take or loop more than they may."""

import hashlib
import io
import lzma
import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet_contract import delta, limits
from fleet_contract.delta import Coding, Header, Kind, compress, operation
from fleet_contract.errors import BadDelta, ContractError, UnknownVersion
from tests.golden import specimens
from tests.golden.freeze import FOLDER

BASE = bytes(range(256)) * 40
PLAIN = Coding(0, 0)
MAX = 1_000_000


def header(result: bytes, length: int | None = None) -> bytes:
    digests = (hashlib.sha256(data).hexdigest() for data in (BASE, result))
    return bytes(Header(*digests, len(result) if length is None else length))


def delta_of(result: bytes, *operations: bytes) -> bytes:
    return header(result) + compress(b"".join(operations), PLAIN)


@pytest.fixture
def applied(tmp_path: Path) -> Callable[..., bytes]:
    def apply(wire: bytes, base: bytes = BASE, max_bytes: int = MAX) -> bytes:
        (tmp_path / "base").write_bytes(base)
        (tmp_path / "delta").write_bytes(wire)
        out = io.BytesIO()
        try:
            delta.apply(tmp_path / "base", tmp_path / "delta", out, max_bytes)
        finally:
            assert len(out.getvalue()) <= max_bytes
        return out.getvalue()

    return apply


@pytest.mark.parametrize(
    ("result", "operations"),
    [
        pytest.param(b"", [], id="nothing"),
        pytest.param(BASE[5:300], [operation(Kind.COPY, 295, 5)], id="a stretch of the base"),
        pytest.param(b"new", [operation(Kind.INSERT, 3, 0, b"new")], id="new bytes"),
        pytest.param(b"\x00\x01\x02", [operation(Kind.ADD, 3, 255, b"\x01\x01\x01")], id="a difference modulo 256"),
        pytest.param(
            b"abcde" + BASE[:7] + b"\x0c\x0e",
            [operation(Kind.INSERT, 5, 0, b"abcde"), operation(Kind.COPY, 7), operation(Kind.ADD, 2, 10, b"\x02\x03")],
            id="one of each, none a whole word",
        ),
        pytest.param(BASE * 20, [operation(Kind.COPY, len(BASE))] * 20, id="more than a piece"),
        pytest.param(bytes(300_000), [operation(Kind.INSERT, 300_000, 0, bytes(300_000))], id="one operation of many pieces"),
    ],
)
def test_operations_make_the_result(result: bytes, operations: list[bytes], applied) -> None:
    assert applied(delta_of(result, *operations)) == result


def test_streams_follow_each_other_and_an_operation_may_lie_across_them(applied) -> None:
    wire = operation(Kind.INSERT, 8, 0, b"abcdefgh")
    streams = [compress(part, coding) for part, coding in ((wire[:13], PLAIN), (b"", Coding(2, 2)), (wire[13:], Coding(4, 0)))]
    assert applied(header(b"abcdefgh") + b"".join(streams)) == b"abcdefgh"


def test_the_header_says_what_it_is_of(tmp_path: Path) -> None:
    (tmp_path / "delta").write_bytes(delta_of(b"new", operation(Kind.INSERT, 3, 0, b"new")))
    read = delta.read_header(tmp_path / "delta")
    assert read == Header(hashlib.sha256(BASE).hexdigest(), hashlib.sha256(b"new").hexdigest(), 3)


def raw_operation(kind: int, length: int, start: int = 0) -> bytes:
    return struct.pack("<III", kind, length, start)


def wide_stream(data: bytes) -> bytes:
    """Of a compressor that asks its reader for 64 MiB."""
    return lzma.compress(data, lzma.FORMAT_ALONE, filters=[{"id": lzma.FILTER_LZMA1, "dict_size": 64 * limits.MIB}])


NEW = operation(Kind.INSERT, 3, 0, b"new")


@pytest.mark.parametrize(
    ("wire", "field"),
    [
        pytest.param(b"", "header", id="nothing at all"),
        pytest.param(header(b"new")[:-1], "header", id="half a header"),
        pytest.param(b"BSDIFF40" + bytes(200), "header", id="another format"),
        pytest.param(header(b"new"), "operation", id="no operations"),
        pytest.param(header(b"new") + b"no stream" * 9, "operation", id="rubbish for a stream"),
        pytest.param(delta_of(b"new", NEW)[:-9], "operation", id="cut short"),
        pytest.param(delta_of(b"new", NEW) + b"\x00", "operation", id="a byte too many"),
        pytest.param(delta_of(b"new", NEW, NEW), "operation", id="operations after the result"),
        pytest.param(delta_of(b"newnew", NEW), "operation", id="operations that make too little"),
        pytest.param(delta_of(b"ne", NEW), "operation", id="an operation beyond the result"),
        pytest.param(delta_of(b"old", NEW), "result", id="another digest"),
        pytest.param(delta_of(b"new", raw_operation(7, 3), b"new\x00"), "operation", id="an unknown kind"),
        pytest.param(delta_of(b"new", raw_operation(0, 0), NEW), "operation", id="an operation of nothing"),
        pytest.param(delta_of(b"new", raw_operation(0, 3, len(BASE) - 2)), "operation", id="a copy beyond the base"),
        pytest.param(delta_of(b"new", raw_operation(1, 3, 2**32 - 1), bytes(4)), "operation", id="an addition far beyond the base"),
        pytest.param(delta_of(b"new", raw_operation(2, 3)), "operation", id="an insertion without its bytes"),
        pytest.param(header(b"new", MAX + 1) + compress(NEW, PLAIN), "length", id="a longer result than is allowed"),
        pytest.param(header(b"new") + wide_stream(NEW), "operation", id="a stream that wants more memory"),
    ],
)
def test_a_bad_delta_is_refused(wire: bytes, field: str, applied) -> None:
    with pytest.raises(BadDelta) as refused:
        applied(wire)
    assert refused.value.field == field


def test_a_delta_of_another_version_is_refused(applied) -> None:
    wire = bytearray(delta_of(b"new", NEW))
    wire[4] = 2
    with pytest.raises(UnknownVersion):
        applied(bytes(wire))


def test_a_delta_on_another_base_is_refused(applied) -> None:
    with pytest.raises(BadDelta):
        applied(delta_of(BASE[:90], operation(Kind.COPY, 90)), base=BASE[::-1])


def test_millions_of_operations_in_a_few_bytes_are_refused(applied) -> None:
    wire = header(b"", MAX) + compress(raw_operation(0, 1) * MAX, PLAIN)
    assert len(wire) < 5_000
    with pytest.raises(BadDelta) as refused:
        applied(wire)
    assert refused.value.limit == limits.MAX_DELTA_OPERATIONS


def test_a_compressed_bomb_takes_no_memory(tmp_path: Path) -> None:
    (tmp_path / "base").write_bytes(BASE)
    (tmp_path / "delta").write_bytes(
        header(b"", 64 * limits.MIB) + compress(raw_operation(2, 64 * limits.MIB) + bytes(64 * limits.MIB), PLAIN)
    )
    tracemalloc.start()
    try:
        with pytest.raises(BadDelta), (tmp_path / "out").open("wb") as out:
            delta.apply(tmp_path / "base", tmp_path / "delta", out, limits.MAX_BUNDLE_BYTES)
        assert tracemalloc.get_traced_memory()[1] < 2 * limits.MIB
    finally:
        tracemalloc.stop()


def test_the_frozen_delta_is_applied(applied) -> None:
    wire = (FOLDER / "delta.bin").read_bytes()
    assert applied(wire, specimens.delta_base()) == specimens.delta_result()


anything = st.binary(max_size=300)
programs = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 2**32 - 1) | st.integers(0, 300), st.integers(0, 2**32 - 1), anything))


@settings(max_examples=300, deadline=None)
@given(
    wire=anything | anything.map(lambda rest: header(b"new", 3) + rest) | anything.map(lambda rest: header(b"", 99) + compress(rest, PLAIN))
)
def test_any_bytes_are_refused_or_applied(tmp_path_factory, wire: bytes) -> None:
    outcome(tmp_path_factory.mktemp("any"), wire)


@settings(max_examples=300, deadline=None)
@given(program=programs, length=st.integers(0, 2**64 - 1) | st.integers(0, 2_000))
def test_any_operations_are_refused_or_applied(tmp_path_factory, program, length: int) -> None:
    wire = b"".join(raw_operation(kind, count, start) + data for kind, count, start, data in program)
    outcome(tmp_path_factory.mktemp("any"), header(b"", length) + compress(wire, PLAIN))


@settings(max_examples=200, deadline=None)
@given(at=st.integers(0, 10_000), flip=st.integers(1, 255))
def test_a_flipped_byte_never_passes_for_the_result(tmp_path_factory, at: int, flip: int) -> None:
    """The digest of the base in the header alone is for the reader to compare."""
    wire = bytearray(delta_of(BASE[:90] + b"new", operation(Kind.ADD, 90, 0, bytes(90)), NEW))
    at %= len(wire)
    wire[at] ^= flip
    made = outcome(tmp_path_factory.mktemp("any"), bytes(wire))
    assert made in (None, BASE[:90] + b"new")


def outcome(folder: Path, wire: bytes) -> bytes | None:
    """What was made, None for a refusal; anything but a ContractError is a failure."""
    (folder / "base").write_bytes(BASE)
    (folder / "delta").write_bytes(wire)
    out = io.BytesIO()
    try:
        delta.apply(folder / "base", folder / "delta", out, 2_000)
    except ContractError:
        return None
    finally:
        assert len(out.getvalue()) <= 2_000
    return out.getvalue()
