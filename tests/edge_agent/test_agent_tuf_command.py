"""The hidden command that tuf-conformance drives, against a repository by plain HTTP."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from edge_agent import cli
from tests.fakes.agent_repository import MemoryRepository
from tests.fakes.small_bundle import small_bundle

PATH = "bundles/toy-1.0.0.bundle"


class Served:
    """A repository and what was asked of it; `cut` bytes of a target are sent before the connection breaks."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.repository = folder, MemoryRepository()
        self.archive = small_bundle()
        self.repository.publish(self.archive)
        self.asked: list[tuple[str, str | None]] = []
        self.cut: int | None = None
        self.url = ""
        (folder / "1.root.json").write_bytes(self.repository.root_v1)

    def run(self, *action: str, targets: tuple[str, ...] = ()) -> int:
        options = ["--metadata-dir", f"{self.folder}/md", "--metadata-url", f"{self.url}/metadata/"]
        for name in targets:
            options += ["--target-name", name]
        return cli.main(["tuf", *options, "--target-base-url", f"{self.url}/targets", "--target-dir", str(self.folder / "got"), *action])

    def init(self) -> int:
        return self.run("init", f"{self.folder}/1.root.json")

    def downloaded(self) -> list[bytes]:
        return [path.read_bytes() for path in (self.folder / "got").iterdir()]

    def ranges(self) -> list[str | None]:
        return [wanted for path, wanted in self.asked if path.startswith("/targets/")]


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    made = Served(tmp_path)
    (tmp_path / "got").mkdir()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.served = made  # type: ignore[attr-defined]
    made.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield made
    server.shutdown()
    thread.join()
    server.server_close()


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        served: Served = self.server.served  # type: ignore[attr-defined]
        served.asked.append((self.path, self.headers.get("Range")))
        data = served.repository.files.get(self.path.lstrip("/"))
        if data is None:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data[: served.cut] if served.ranges()[-1:] and self.path.startswith("/targets/") else data)

    def log_message(self, *_: object) -> None:
        """Silent."""


def test_refresh_keeps_unversioned_names(served: Served) -> None:
    assert served.init() == 0
    assert served.asked == []
    assert served.run("refresh") == 0
    assert {path.name for path in (served.folder / "md").glob("*.json")} == {"root.json", "timestamp.json", "snapshot.json", "targets.json"}


def test_a_target_is_brought_once(served: Served, capsys: pytest.CaptureFixture[str]) -> None:
    served.init()
    assert served.run("download", targets=(PATH,)) == 0
    assert served.run("download", targets=(PATH,)) == 0
    assert served.downloaded() == [served.archive]
    assert len(served.ranges()) == 1
    assert capsys.readouterr().out.split()[0] == str(served.folder / "got" / "bundles%2Ftoy-1.0.0.bundle")


def test_what_an_earlier_run_brought_of_it_is_kept(served: Served) -> None:
    served.init()
    served.cut = 300
    assert served.run("download", targets=(PATH,)) == 1
    served.cut = None
    served.asked.clear()
    assert served.run("download", targets=(PATH,)) == 0
    assert served.downloaded() == [served.archive]
    assert served.ranges() == ["bytes=300-"]


def test_what_was_not_signed_is_thrown_away(served: Served) -> None:
    served.init()
    [path] = [path for path in served.repository.files if path.startswith("targets/")]
    served.repository.files[path] = bytes(len(served.archive))
    assert served.run("download", targets=(PATH,)) == 1
    assert served.downloaded() == []


def test_the_first_target_that_fails_ends_it(served: Served) -> None:
    served.init()
    assert served.run("download", targets=("bundles/none.bundle", PATH)) == 1
    assert served.downloaded() == []


@pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/passwd", "a?b", "a#b", "a\nb", "", "."])
def test_no_target_name_leads_out_of_the_folder(served: Served, name: str) -> None:
    served.init()
    assert served.run("download", targets=(name,)) == 1
    assert served.downloaded() == []


def test_another_root_is_not_pinned_over_the_first(served: Served) -> None:
    served.init()
    (served.folder / "1.root.json").write_bytes(MemoryRepository().root_v1)
    assert served.init() == 2
    assert served.run("refresh") == 0


@pytest.mark.parametrize(
    ("action", "code"),
    [
        pytest.param(("refresh",), 2, id="refresh before init"),
        pytest.param(("init", "/nowhere"), 2, id="no such root"),
        pytest.param(("download",), 2, id="no target named"),
    ],
)
def test_mistakes(served: Served, action: tuple[str, ...], code: int) -> None:
    assert served.run(*action) == code


def test_a_floor_of_time_may_be_given(served: Served) -> None:
    served.init()
    assert (
        cli.main(
            [
                "tuf",
                "--metadata-dir",
                f"{served.folder}/md",
                "--metadata-url",
                f"{served.url}/metadata",
                "--built-at",
                "2999-01-01",
                "refresh",
            ]
        )
        == 1
    )


def test_it_is_documented_and_left_out_of_the_overview(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["tuf", "--help"])
    assert "CLIENT-CLI.md" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        cli.main(["--help"])
    assert "tuf" not in capsys.readouterr().out
