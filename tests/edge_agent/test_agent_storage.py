"""Files that must survive a power cut are whole or absent, private, and leave nothing half-made behind."""

import os
from pathlib import Path

import msgspec
import pytest

from edge_agent.config import Settings, StateFolder
from edge_agent.errors import Fatal, Reject, Retry
from edge_agent.storage import atomic
from edge_agent.storage.journal import Journal


class Note(msgspec.Struct, frozen=True):
    text: str
    count: int = 0


class TestAtomic:
    def test_the_new_content_replaces_the_old_whole(self, tmp_path: Path) -> None:
        path = tmp_path / "file"
        atomic.write(path, b"old and longer")
        atomic.write(path, b"new")
        assert path.read_bytes() == b"new"
        assert path.stat().st_mode & 0o777 == 0o600
        assert list(tmp_path.iterdir()) == [path]

    def test_file_and_folder_are_synced_before_and_after_the_rename(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        steps: list[str] = []
        sync, replace = os.fsync, Path.replace

        def record_sync(handle: int) -> None:
            steps.append("sync folder" if Path(f"/proc/self/fd/{handle}").is_dir() else "sync file")
            sync(handle)

        def record_rename(source: Path, target: Path) -> Path:
            steps.append("rename")
            return replace(source, target)

        monkeypatch.setattr(os, "fsync", record_sync)
        monkeypatch.setattr(Path, "replace", record_rename)
        atomic.write(tmp_path / "file", b"x")
        assert steps == ["sync file", "rename", "sync folder"]

    def test_a_write_that_fails_leaves_the_old_content(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path = tmp_path / "file"
        atomic.write(path, b"old")

        def fail(handle: int) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "fsync", fail)
        with pytest.raises(OSError, match="No space"):
            atomic.write(path, b"new")
        assert path.read_bytes() == b"old"

    def test_a_folder_that_is_there_is_not_written_over(self, tmp_path: Path) -> None:
        atomic.write_folder(tmp_path / "one", {"a": b"1"})
        with pytest.raises(OSError, match="not empty"):
            atomic.write_folder(tmp_path / "one", {"a": b"2"})
        assert (tmp_path / "one" / "a").read_bytes() == b"1"


class TestJournal:
    def test_what_was_written_is_read(self, tmp_path: Path) -> None:
        Journal(tmp_path / "j", Note).write(Note("x", 3))
        assert Journal(tmp_path / "j", Note).read() == Note("x", 3)

    def test_nothing_yet(self, tmp_path: Path) -> None:
        assert Journal(tmp_path / "j", Note).read() is None

    @pytest.mark.parametrize("data", [b"", b"{", b'{"text": 1}', b"\xff\xfe"])
    def test_a_damaged_one_is_said_and_can_be_set_aside(self, tmp_path: Path, data: bytes) -> None:
        journal = Journal(tmp_path / "j", Note)
        (tmp_path / "j").write_bytes(data)
        with pytest.raises(Reject):
            journal.read()
        assert journal.set_aside().read_bytes() == data
        assert journal.read() is None

    def test_a_disk_that_does_not_write_is_a_reason_to_wait(self, tmp_path: Path) -> None:
        with pytest.raises(Retry):
            Journal(tmp_path / "missing" / "j", Note).write(Note("x"))


class TestStateFolder:
    def test_one_agent_at_a_time(self, tmp_path: Path) -> None:
        state = StateFolder(tmp_path / "state")
        with state.lock() as first, state.lock() as second:
            assert (first, second) == (True, False)
            assert state.owner() == os.getpid()
        with state.lock() as third:
            assert third

    def test_it_is_private(self, tmp_path: Path) -> None:
        with StateFolder(tmp_path / "state").lock():
            assert (tmp_path / "state").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize(
    "wrong",
    [{"micro_batch": 0}, {"probation_inputs": -1}, {"probation_s": float("nan")}],
    ids=lambda wrong: next(iter(wrong)),
)
def test_settings_name_what_is_wrong(wrong: dict) -> None:
    with pytest.raises(Fatal, match=next(iter(wrong))):
        Settings(**wrong)
