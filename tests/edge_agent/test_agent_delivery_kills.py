"""A download whose process is killed at random moments, and one that is much larger than the memory it may take."""

import random
import subprocess
import sys
from pathlib import Path

import pytest

from fleet_contract import limits
from tests.architecture.sources import ROOT
from tests.fakes.agent_download_process import MadeUp, target_of
from tests.fakes.agent_downloads import WAYS

KILLS = 3
FILE = MadeUp(6 * limits.MIB + 11)
TARGET = target_of(FILE)


def begin(way: str, folder: Path, length: int) -> subprocess.Popen:
    command = [sys.executable, "-m", "tests.fakes.agent_download_process", way, str(folder), str(length)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE)


def present(folder: Path) -> set[int]:
    """The blocks that are right on the disk."""
    if not (folder / "part").exists():
        return set()
    data = (folder / "part").read_bytes()
    spans = {number: TARGET.index.span(number) for number in range(TARGET.index.count)}
    return {number for number, (start, length) in spans.items() if TARGET.index.matches(number, data[start : start + length])}


def asked(folder: Path) -> list[int]:
    """The blocks that were asked for since the last look."""
    log = folder / "asked"
    numbers = [int(line) for line in log.read_text().splitlines()] if log.exists() else []
    log.unlink(missing_ok=True)
    return numbers


@pytest.mark.e2e
@pytest.mark.parametrize("way", WAYS)
def test_whenever_it_is_killed_no_block_on_the_disk_is_asked_for_again(way: str, tmp_path: Path) -> None:
    moments = random.Random(way)
    here: set[int] = set()
    for _ in range(KILLS):
        with begin(way, tmp_path, len(FILE)) as child:
            dots = moments.randint(2, 500)
            assert child.stdout is not None
            child.stdout.read(dots)
            child.kill()
        assert not here & {*asked(tmp_path)}
        assert here <= present(tmp_path)
        here = present(tmp_path)
    assert 0 < len(here) < TARGET.index.count
    with begin(way, tmp_path, len(FILE)) as child:
        child.communicate()
    assert sorted(asked(tmp_path)) == sorted({*range(TARGET.index.count)} - here)
    assert (tmp_path / "part").read_bytes() == FILE[:]


@pytest.mark.e2e
@pytest.mark.parametrize("way", ["shared", "http"])
def test_a_large_file_takes_little_memory(way: str, tmp_path: Path) -> None:
    """200 MB. What grows with the length is 32 bytes of digest and a set's entry for each 32 KiB: some 10 MB at the limit of 2 GiB."""
    length = 200_000_000
    with begin(way, tmp_path, length) as child:
        out, _ = child.communicate()
    before_kib, most_kib = map(int, out.split()[-2:])
    assert (tmp_path / "part").stat().st_size == length
    assert most_kib - before_kib < 32 * 1024
