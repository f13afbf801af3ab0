"""The device's own configuration: what it may say, and what is told of what it may not."""

import re
from contextlib import ExitStack
from pathlib import Path

import pytest

from edge_agent import device_file, local
from edge_agent.clock import SystemClock
from edge_agent.device_file import DeviceFile, Member, Shadow
from edge_agent.errors import Fatal
from edge_agent.inference.host import InferenceHost
from edge_agent.inference.pinned import Pinned, open_pinned, parse
from edge_agent.local import Board
from edge_agent.sinks.settings import JsonLines
from firmware_profiles import catalog
from fleet_contract import limits
from fleet_contract.bundle import Bundle
from tests.fakes.agent_run_models import bundle

DOCUMENT = Path(__file__).parents[2] / "docs/configuration.md"
DIGEST = "0" * 64
WHOLE = f"""
source = "csv:readings.csv"

[serving]
http = ["127.0.0.1:8080", "unix:/run/edge-agent/http.sock"]
grpc = ["127.0.0.1:8081"]
token_file = "/etc/edge-agent/tokens"

[queue]
policy = "block"

[[models]]
name = "second"
bundle = "/var/lib/models/second.bundle"
sha256 = "{DIGEST}"

[[ensembles]]
name = "both"
rule = "vote"
members = [{{ model = "second" }}, {{ model = "digits", weight = 2 }}]

[[shadows]]
bundle = "/var/lib/models/next.bundle"
sha256 = "{DIGEST}"

[[sinks]]
kind = "jsonl"
path = "/var/log/results.jsonl"
"""


def test_all_of_it() -> None:
    found = device_file.parse(WHOLE.encode(), "agent.toml")
    assert found.serving.http == ["127.0.0.1:8080", "unix:/run/edge-agent/http.sock"]
    assert found.ensembles[0].members == [Member(model="second"), Member(model="digits", weight=2)]
    assert found.shadows == [Shadow(bundle="/var/lib/models/next.bundle", sha256=DIGEST, every_inputs=1_000)]
    assert (found.queue.policy, found.queue.max_inputs, found.source) == ("block", 64, "csv:readings.csv")
    assert found.sinks == [JsonLines(path="/var/log/results.jsonl")]


def test_the_document_shows_every_field_and_is_right() -> None:
    text = DOCUMENT.read_text()
    (shown,) = re.findall(r"```toml\n(.*?)```", text, re.DOTALL)
    found = device_file.parse(shown.encode(), "docs/configuration.md")
    parts = [
        found,
        found.serving,
        found.queue,
        found.models[0],
        found.ensembles[0],
        found.ensembles[0].members[1],
        found.shadows[0],
        found.outbox,
        found.outbox.shares,
        found.uplink,
        found.clock,
    ]
    assert [field for part in parts for field in part.__struct_fields__ if not re.search(rf"\b{field}\b", shown)] == []


def test_nothing_is_enough() -> None:
    assert device_file.parse(b"", "agent.toml") == DeviceFile()


@pytest.mark.parametrize(
    ("text", "named"),
    [
        pytest.param("serving = 3", "$.serving", id="type"),
        pytest.param("speed = 3", "`speed`", id="unknown"),
        pytest.param("[serving]\nport = 3", "`port`", id="unknown-below"),
        pytest.param('[[models]]\nname = "a b"\nbundle = "x"\nsha256 = "y"', "$.models[0].name", id="name"),
        pytest.param('[[models]]\nname = "a"\nbundle = "x"', "`sha256`", id="unpinned"),
        pytest.param('[[ensembles]]\nname = "a"\nrule = "median"\nmembers = []', "$.ensembles[0].rule", id="rule"),
        pytest.param('[[ensembles]]\nname = "a"\nrule = "vote"\nmembers = [{ model = "x" }]', "$.ensembles[0].members", id="alone"),
        pytest.param('[queue]\npolicy = "drop-all"', "$.queue.policy", id="policy"),
        pytest.param('[[sinks]]\nkind = "fax"', "$.sinks[0]", id="sink"),
        pytest.param('[uplink]\nquiet_hours = ["22-6"]', "quiet_hours is '22-6'", id="no-hours"),
        pytest.param('[clock]\ntrust = "me"', "$.clock.trust", id="trust"),
        pytest.param("[serving\n", "line 1", id="no-toml"),
        pytest.param("\ud800", "agent.toml", id="no-text"),
    ],
)
def test_what_is_wrong_is_named(text: str, named: str) -> None:
    with pytest.raises(Fatal) as refused:
        device_file.parse(text.encode("utf-8", "surrogatepass"), "agent.toml")
    assert (refused.value.code, named in str(refused.value)) == ("config", True), refused.value


def test_a_file_that_is_too_large(tmp_path: Path) -> None:
    path = tmp_path / "agent.toml"
    path.write_bytes(b"#" * (limits.MAX_DEVICE_FILE_BYTES + 1))
    with pytest.raises(Fatal, match=str(limits.MAX_DEVICE_FILE_BYTES)):
        device_file.read(path)


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(Fatal, match="No such file"):
        device_file.read(tmp_path / "agent.toml")


LOCAL = '[[models]]\nname = "{}"\nbundle = "b"\nsha256 = "' + DIGEST + '"\n'


@pytest.mark.parametrize(
    ("text", "told"),
    [
        pytest.param(LOCAL.format("a") * 2, "'a'", id="one-name-twice"),
        pytest.param(
            LOCAL.format("a") + '[[ensembles]]\nname = "e"\nrule = "vote"\nmembers = [{ model = "a" }, { model = "b" }]',
            "'b'",
            id="no-member",
        ),
        pytest.param(
            LOCAL.format("a") + '[[ensembles]]\nname = "a"\nrule = "vote"\nmembers = [{ model = "a" }, { model = "a" }]',
            "'a'",
            id="an-ensemble-named-as-a-model",
        ),
        pytest.param(LOCAL.format("a") + f'[[shadows]]\nmodel = "b"\nbundle = "x"\nsha256 = "{DIGEST}"', "'b'", id="no-model-to-shadow"),
        pytest.param('ask = "a"\n' + LOCAL.format("a"), "an ensemble whose first member is the fleet's model, 'fleet'", id="asked-alone"),
        pytest.param(
            'ask = "e"\n'
            + LOCAL.format("a")
            + '[[ensembles]]\nname = "e"\nrule = "vote"\nmembers = [{ model = "a" }, { model = "fleet" }]',
            "first member",
            id="asked-in-another-order",
        ),
        pytest.param(LOCAL.format("a").replace(DIGEST, "abc"), "64 hexadecimal", id="digest"),
    ],
)
def test_what_does_not_go_together(text: str, told: str) -> None:
    board = Board(catalog.load("generic-x86-64"), SystemClock(), lambda event: None)
    with ExitStack() as closing, pytest.raises(Fatal) as refused:
        host = InferenceHost(board.profile, board.clock)
        closing.callback(host.close)
        local.assemble(device_file.parse(text.encode(), "agent.toml"), board, ("fleet", host), closing)
    assert told in str(refused.value)


class TestPinned:
    def test_with_and_without_a_digest(self) -> None:
        assert parse(f"a/b.bundle@{DIGEST}") == Pinned(Path("a/b.bundle"), DIGEST)
        assert parse("b.bundle") == Pinned(Path("b.bundle"))

    def test_the_bytes_that_are_meant(self, tmp_path: Path) -> None:
        path, archive = tmp_path / "b.bundle", bundle()
        path.write_bytes(archive)
        digest = Bundle(archive).sha256
        assert open_pinned(Pinned(path, digest)).sha256 == digest
        with pytest.raises(Fatal, match=f"has the digest {digest}, not {DIGEST}"):
            open_pinned(Pinned(path, DIGEST))

    @pytest.mark.parametrize("data", [None, b"", b"no bundle"])
    def test_no_bundle(self, tmp_path: Path, data: bytes | None) -> None:
        path = tmp_path / "b.bundle"
        if data is not None:
            path.write_bytes(data)
        with pytest.raises(Fatal, match=r"b\.bundle is no bundle"):
            open_pinned(Pinned(path))
