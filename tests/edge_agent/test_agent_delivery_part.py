"""The staged file: what its bytes prove, what other files give, what the disk refuses, and files made from deltas."""

import errno
import hashlib
import os
import random
from collections import namedtuple
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.delivery import reuse
from edge_agent.delivery.part import open_part
from edge_agent.delivery.ports import Fetched, Held, Target
from edge_agent.errors import Retry
from fleet_contract import delta, limits
from fleet_contract.blocks import index_of
from fleet_contract.messages import Want
from tests.fakes.agent_downloads import Device, device, target_of

B = limits.MIN_BLOCK_BYTES
FILE = random.Random(3).randbytes(30 * B + 9)
INDEX = index_of(FILE)


def block(letter: str) -> bytes:
    return letter.encode() * B


class TestPart:
    @pytest.mark.parametrize(
        ("former", "lacking"),
        [
            pytest.param(b"", {*range(31)}, id="nothing"),
            pytest.param(FILE, set(), id="the whole"),
            pytest.param(FILE + b"more", set(), id="the whole and more"),
            pytest.param(FILE[: 10 * B + 5], {*range(10, 31)}, id="a beginning"),
            pytest.param(FILE[:B] + bytes(2 * B) + FILE[3 * B :], {1, 2}, id="a hole"),
            pytest.param(FILE[5 * B : 9 * B], {*range(31)} - {5, 6, 7, 8}, id="blocks in other places"),
            pytest.param(FILE[B : 2 * B] + FILE[:B] + FILE[2 * B :], {0, 1}, id="two that wait for each other"),
            pytest.param(bytes(100 * B), {*range(31)}, id="zeros"),
        ],
    )
    def test_it_lacks_what_its_former_bytes_do_not_give(self, tmp_path: Path, former: bytes, lacking: set[int]) -> None:
        (tmp_path / "part").write_bytes(former)
        with open_part(tmp_path / "part", INDEX) as part:
            assert (part.need, part.lacking_bytes) == (lacking, sum(INDEX.span(number)[1] for number in lacking))
        assert (tmp_path / "part").stat().st_size == len(FILE)

    @settings(max_examples=60, deadline=None)
    @given(st.text("abcde", max_size=8), st.text("abcde", min_size=1, max_size=8))
    def test_whatever_was_there_nothing_wrong_is_present(self, tmp_path_factory: pytest.TempPathFactory, former: str, wanted: str) -> None:
        path = tmp_path_factory.mktemp("shuffle") / "part"
        path.write_bytes(b"".join(map(block, former)))
        data = b"".join(map(block, wanted))
        with open_part(path, index_of(data)) as part:
            need = set(part.need)
        kept = path.read_bytes()
        assert all(kept[n * B : (n + 1) * B] == data[n * B : (n + 1) * B] for n in range(len(wanted)) if n not in need)
        in_place = {n for n in range(min(len(former), len(wanted))) if former[n] == wanted[n]}
        assert not in_place & need

    def test_only_a_right_block_is_written_and_only_once(self, tmp_path: Path) -> None:
        with open_part(tmp_path / "part", INDEX) as part:
            assert not part.write(3, FILE[:B])
            assert not part.write(3, FILE[3 * B : 4 * B - 1])
            assert not part.write(99, FILE[:B])
            assert part.write(3, FILE[3 * B : 4 * B])
            assert not part.write(3, FILE[3 * B : 4 * B])

    @pytest.mark.parametrize("kind", ["a link", "a link to nothing", "a pipe", "a second name"])
    def test_what_is_no_file_of_ours_gives_way_untouched(self, tmp_path: Path, kind: str) -> None:
        other, path = tmp_path / "other", tmp_path / "part"
        other.write_bytes(b"somebody else's")
        make: dict[str, Callable[[], None]] = {
            "a link": lambda: path.symlink_to(other),
            "a link to nothing": lambda: path.symlink_to(tmp_path / "nothing"),
            "a pipe": lambda: os.mkfifo(path),
            "a second name": lambda: os.link(other, path),
        }
        make[kind]()
        with open_part(path, INDEX) as part:
            for number in sorted(part.need):
                part.write(number, FILE[number * B : (number + 1) * B])
        assert (path.read_bytes(), path.is_symlink(), other.read_bytes()) == (FILE, False, b"somebody else's")
        assert sorted(file.name for file in tmp_path.iterdir()) == ["other", "part"]

    def test_a_disk_without_room_says_how_much_it_lacks(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        disk = namedtuple("disk", "f_bavail f_frsize")(1024, 4096)  # the 4 MiB that stay free
        monkeypatch.setattr(os, "fstatvfs", lambda file: disk)
        with pytest.raises(Retry, match=f"lacks {len(FILE)} bytes") as caught, open_part(tmp_path / "part", INDEX):
            pass
        assert caught.value.code == "disk"

    def test_a_quota_is_found_before_anything_is_asked_for(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def full(file: int, start: int, length: int) -> None:
            raise OSError(errno.EDQUOT, "quota")

        monkeypatch.setattr(os, "posix_fallocate", full)
        with pytest.raises(Retry) as caught, open_part(tmp_path / "part", INDEX):
            pass
        assert caught.value.code == "disk"

    def test_it_is_synced_every_few_mib(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        synced = []
        monkeypatch.setattr(os, "fdatasync", lambda file: synced.append(len(written)))
        written: list[int] = []
        large = random.Random(4).randbytes(9 * limits.MIB)
        index = index_of(large)
        with open_part(tmp_path / "part", index) as part:
            for number in range(index.count):
                start, length = index.span(number)
                part.write(number, large[start : start + length])
                written.append(number)
        per_sync = 4 * limits.MIB // index.block_bytes
        assert synced == [per_sync - 1, 2 * per_sync - 1]


class TestReuse:
    def test_blocks_come_from_wherever_they_lie_on_the_grid(self, tmp_path: Path) -> None:
        one, two = tmp_path / "one", tmp_path / "two"
        one.write_bytes(bytes(B) + FILE[4 * B : 8 * B] + b"x")
        two.write_bytes(FILE[10 * B :])
        with open_part(tmp_path / "part", INDEX) as part:
            reuse.take(part, [Held(one, ""), Held(two, "")])
            assert part.need == {0, 1, 2, 3, 8, 9}

    @pytest.mark.parametrize("kind", ["nothing", "a folder", "a link", "a pipe"])
    def test_what_cannot_be_read_gives_nothing(self, tmp_path: Path, kind: str) -> None:
        path, other = tmp_path / "held", tmp_path / "other"
        other.write_bytes(FILE)
        make: dict[str, Callable[[], object]] = {
            "nothing": lambda: None,
            "a folder": path.mkdir,
            "a link": lambda: path.symlink_to(other),
            "a pipe": lambda: os.mkfifo(path),
        }
        make[kind]()
        with open_part(tmp_path / "part", INDEX) as part:
            reuse.take(part, [Held(path, "")])
            assert len(part.need) == INDEX.count


BASE = random.Random(5).randbytes(400 * B)
SHIFTED = BASE[:100] + b"a few bytes that move all blocks" + BASE[100:]


def made(base: bytes, result: bytes) -> bytes:
    """A delta that says it makes `result` from `base`, and makes SHIFTED from BASE."""
    operations = delta.operation(delta.Kind.COPY, 100, 0)
    operations += delta.operation(delta.Kind.INSERT, 32, data=SHIFTED[100:132])
    operations += delta.operation(delta.Kind.COPY, len(BASE) - 100, 100)
    header = delta.Header(hashlib.sha256(base).hexdigest(), hashlib.sha256(result).hexdigest(), len(result))
    return bytes(header) + delta.compress(operations, delta.Coding(0, 2))


class Desk:
    """A device that holds BASE and is sent SHIFTED, with a delta beside it."""

    def __init__(self, dev: Device, folder: Path, patch: bytes) -> None:
        self.dev = dev
        self.held = [Held(folder / "base", hashlib.sha256(BASE).hexdigest())]
        self.held[0].path.write_bytes(BASE)
        self.delta = target_of(patch, "toy-2.from-1.delta")
        self.target = target_of(SHIFTED, "toy-2.bundle", deltas={self.held[0].sha256: self.delta.path})
        dev.signed[self.delta.path] = self.delta
        dev.service.files |= {self.delta.fetch_path: patch, self.target.fetch_path: SHIFTED}

    def bring(self) -> Fetched:
        done = self.dev.bring(self.target, self.held)
        assert self.dev.part.read_bytes() == SHIFTED
        assert not self.dev.part.with_name("part.delta").exists()
        return done

    def paths(self) -> set[str]:
        return {message.path for message in self.dev.service.requests if isinstance(message, Want)}


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    with device("one to one", {}, tmp_path) as dev:
        yield Desk(dev, tmp_path, made(BASE, SHIFTED))


class TestDelta:
    def test_what_is_worth_it_is_fetched_instead_of_blocks(self, desk: Desk) -> None:
        done = desk.bring()
        assert (done.way, desk.paths()) == ("delta", {desk.delta.fetch_path})
        assert done.fetched_bytes == desk.delta.length < 1_000

    def test_what_is_cut_off_goes_on_with_it(self, desk: Desk) -> None:
        with pytest.raises(Retry):
            left = iter(range(3))
            desk.dev.bring(desk.target, desk.held, wanted=lambda: next(left, None) is not None)
        assert desk.bring().way == "delta"

    @pytest.mark.parametrize(
        "spoil",
        [
            pytest.param(lambda desk: desk.held[0].path.write_bytes(BASE[:-1] + b"x"), id="the base has changed on the disk"),
            pytest.param(lambda desk: desk.held[0].path.unlink(), id="the base is gone"),
            pytest.param(lambda desk: desk.held.clear(), id="no base"),
            pytest.param(lambda desk: desk.dev.signed.update({desk.delta.path: big(desk.delta)}), id="it is not worth it"),
            pytest.param(lambda desk: desk.dev.signed.update({desk.delta.path: target_of(b"")}), id="it is empty"),
            pytest.param(lambda desk: lie(desk, made(BASE, BASE)), id="it makes something else"),
            pytest.param(lambda desk: lie(desk, made(BASE, SHIFTED)[:-9]), id="it is cut short"),
            pytest.param(lambda desk: lie(desk, b"EDLT\x02" + bytes(500)), id="it is of the future"),
            pytest.param(lambda desk: lie(desk, b"no delta"), id="it is none"),
            pytest.param(lambda desk: desk.dev.service.files.pop(desk.delta.fetch_path), id="the server has it not"),
            pytest.param(lambda desk: desk.dev.service.files.update({desk.delta.fetch_path: b"x" * 300}), id="the server has another"),
        ],
    )
    def test_whatever_is_wrong_with_it_the_blocks_are_fetched(self, desk: Desk, spoil: Callable[[Desk], object]) -> None:
        spoil(desk)
        assert desk.bring().way == "mqtt"
        assert desk.target.fetch_path in desk.paths()

    def test_without_room_for_it_the_blocks_are_fetched(self, desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
        reserve = os.posix_fallocate

        def refuse(file: int, start: int, length: int) -> None:
            if length == desk.delta.length:
                raise OSError(errno.ENOSPC, "no room")
            reserve(file, start, length)

        monkeypatch.setattr(os, "posix_fallocate", refuse)
        assert desk.bring().way == "mqtt"

    def test_one_that_the_metadata_cannot_find_is_as_if_it_were_not_there(self, desk: Desk) -> None:
        def look_up(path: str) -> Target:
            raise Retry("the signed metadata has no such target", code="no-target")

        desk.dev.downloads._look_up = look_up
        assert desk.bring().way == "mqtt"


def big(target: Target) -> Target:
    """As if the delta were nearly as long as the file."""
    return target_of(SHIFTED[: 380 * B], target.path.removeprefix("bundles/"))


def lie(desk: Desk, patch: bytes) -> None:
    """Signed, and still wrong."""
    desk.delta = target_of(patch, "toy-2.from-1.delta")
    desk.dev.signed[desk.delta.path] = desk.delta
    desk.dev.service.files[desk.delta.fetch_path] = patch
