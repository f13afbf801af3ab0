"""A block index says which bytes a device lacks and whether those that came are right."""

import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet_contract import blocks, limits
from fleet_contract.errors import BadBlocks

KIB = 1024


@given(st.integers(1, 5_000).flatmap(lambda count: st.tuples(st.just(count), st.sets(st.integers(0, count - 1), max_size=64))))
def test_a_bitmap_gives_its_blocks_back(case: tuple[int, set[int]]) -> None:
    count, need = case
    bitmap = blocks.to_bitmap(need, count)
    assert len(bitmap) == -(-count // 8)
    assert blocks.from_bitmap(bitmap) == sorted(need)


@pytest.mark.parametrize(("need", "count"), [([8], 8), ([-1], 8), ([0], 0)])
def test_a_bitmap_holds_no_block_beyond_the_file(need: list[int], count: int) -> None:
    with pytest.raises(BadBlocks):
        blocks.to_bitmap(need, count)


@pytest.mark.parametrize(
    ("length", "size"),
    [
        pytest.param(0, 4 * KIB, id="empty"),
        pytest.param(1, 4 * KIB, id="a byte"),
        pytest.param(8 * limits.MIB, 4 * KIB, id="2,048 small blocks"),
        pytest.param(8 * limits.MIB + 1, 8 * KIB, id="one more"),
        pytest.param(limits.MAX_BUNDLE_BYTES, limits.MAX_BLOCK_BYTES, id="the largest bundle"),
    ],
)
def test_block_size_grows_with_the_file(length: int, size: int) -> None:
    assert blocks.block_bytes_for(length) == size


@pytest.mark.parametrize("length", [0, 1, 4 * KIB - 1, 4 * KIB, 4 * KIB + 1, 50_000])
def test_an_index_tells_right_blocks_from_wrong_ones(length: int) -> None:
    data = bytes(at * 7 % 251 for at in range(length))
    index = blocks.index_of(data)
    assert blocks.from_custom(blocks.to_custom(index)) == index
    parts = [data[start : start + size] for start, size in map(index.span, range(index.count))]
    assert b"".join(parts) == data
    for number, part in enumerate(parts):
        assert index.matches(number, part)
        assert not index.matches(number, part[:-1])
        assert not index.matches(number, part + b"\0")
        assert not index.matches(number, bytes([part[0] ^ 1]) + part[1:])


@pytest.mark.parametrize("number", [-1, 2, 10**9])
def test_there_is_no_block_beyond_the_file(number: int) -> None:
    with pytest.raises(BadBlocks):
        blocks.index_of(bytes(5 * KIB)).span(number)


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        pytest.param({"block_bytes": 1}, "block_bytes", id="blocks too small"),
        pytest.param({"block_bytes": limits.MAX_BLOCK_BYTES * 2}, "block_bytes", id="blocks too large"),
        pytest.param({"length": -1}, "length", id="negative length"),
        pytest.param({"length": limits.MAX_BUNDLE_BYTES + 1}, "length", id="too long"),
        pytest.param({"digests": b"x"}, "digests", id="half a digest"),
        pytest.param({"digests": bytes(64)}, "digests", id="a digest too many"),
    ],
)
def test_an_index_that_makes_no_sense_is_an_error(fields: dict, field: str) -> None:
    with pytest.raises(BadBlocks) as caught:
        blocks.BlockIndex(**{"length": 100, "block_bytes": 4 * KIB, "digests": bytes(32)} | fields)
    assert caught.value.field == field


@pytest.mark.parametrize(
    "custom",
    [
        pytest.param(None, id="none"),
        pytest.param({}, id="empty"),
        pytest.param([], id="a list"),
        pytest.param({"edgefleet-blocks": None}, id="null"),
        pytest.param({"edgefleet-blocks": {"length": 1}}, id="fields missing"),
        pytest.param({"edgefleet-blocks": {"length": 1, "block_bytes": 4096, "digests": "%%"}}, id="digests that are not base64"),
        pytest.param({"edgefleet-blocks": {"length": -1, "block_bytes": 4096, "digests": ""}}, id="a length that makes no sense"),
        pytest.param({"edgefleet-blocks": {"length": 0, "block_bytes": 4096, "digests": "", "more": 1}}, id="an unknown field"),
    ],
)
def test_a_target_without_a_usable_index_is_an_error(custom: object) -> None:
    with pytest.raises(BadBlocks):
        blocks.from_custom(custom)


@pytest.mark.parametrize("length", [0, 1, 4 * KIB, 4 * KIB + 1, 9_000_000], ids="{} bytes".format)
def test_a_file_has_the_index_of_its_bytes(tmp_path: Path, length: int) -> None:
    data = bytes(range(251)) * (length // 251 + 1)
    (tmp_path / "file").write_bytes(data[:length])
    assert blocks.index_of_file(tmp_path / "file") == blocks.index_of(data[:length])


def test_the_index_of_a_large_file_takes_little_memory(tmp_path: Path) -> None:
    with (tmp_path / "file").open("wb") as file:
        file.truncate(200 * limits.MIB)
    tracemalloc.start()
    blocks.index_of_file(tmp_path / "file")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2 * limits.MIB
